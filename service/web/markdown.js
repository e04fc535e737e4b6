/** Markdown as far as the project's own pages use it: headings, paragraphs, lists, tables, code, bold. */

import { el, table, wide } from './dom.js';

/** The nodes of a text; headings begin at h2. Plots are told by their names: they lie beside the model card. */
export function markdown(text) {
  return text.trim().split(/\n\n+/).flatMap((block) => {
    const heading = /^(#+) (.*)$/.exec(block);
    if (heading) return el(`h${heading[1].length + 1}`, {}, ...inline(heading[2]));
    if (block.startsWith('|')) return grid(block);
    if (block.startsWith('- ')) return el('ul', {}, ...block.slice(2).split(/\n- /).map((item) => el('li', {}, ...inline(item))));
    if (block.startsWith('    ')) return el('pre', { tabindex: 0 }, block.replace(/^ {4}/gm, ''));
    if (block.startsWith('![')) return [];
    return el('p', {}, ...inline(block));
  });
}

function grid(block) {
  const [head, , ...rows] = block.split('\n').map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()));
  return wide(table('', head, rows.map((row) => row.map((cell) => el('span', {}, ...inline(cell))))));
}

function inline(text) {
  return text.split(/(\*\*.+?\*\*|`.+?`|\[.+?\]\(.+?\)|\*[^*\s].*?\*)/s).map((part) => {
    if (part.startsWith('**')) return el('strong', {}, part.slice(2, -2));
    if (part.startsWith('`')) return el('code', {}, part.slice(1, -1));
    if (part.startsWith('*')) return el('em', {}, part.slice(1, -1));
    if (/^\[.+\]\(/.test(part)) return part.slice(1, part.indexOf(']('));
    return part;
  });
}
