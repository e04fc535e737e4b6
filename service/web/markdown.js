/** Render the Markdown that this project's own pages use: headings, paragraphs, lists, tables, code, bold, italics. */

import { createTable, el, makeScrollable } from './dom.js';

/** The nodes of a text; headings begin at h2. Images are left out: the model card names its plots. */
export function renderMarkdown(text) {
  return text.trim().split(/\n\n+/).flatMap((block) => {
    const heading = /^(#+) (.*)$/.exec(block);
    if (heading) return el(`h${heading[1].length + 1}`, {}, ...renderInline(heading[2]));
    if (block.startsWith('|')) return renderTable(block);
    if (block.startsWith('- ')) return el('ul', {}, ...block.slice(2).split(/\n- /).map((item) => el('li', {}, ...renderInline(item))));
    if (block.startsWith('    ')) return el('pre', { tabindex: 0 }, block.replace(/^ {4}/gm, ''));
    if (block.startsWith('![')) return [];
    return el('p', {}, ...renderInline(block));
  });
}

function renderTable(block) {
  const [head, , ...rows] = block.split('\n').map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()));
  return makeScrollable(createTable('', head, rows.map((row) => row.map((cell) => el('span', {}, ...renderInline(cell))))));
}

function renderInline(text) {
  return text.split(/(\*\*.+?\*\*|`.+?`|\[.+?\]\(.+?\)|\*[^*\s].*?\*)/s).map((part) => {
    if (part.startsWith('**')) return el('strong', {}, part.slice(2, -2));
    if (part.startsWith('`')) return el('code', {}, part.slice(1, -1));
    if (part.startsWith('*')) return el('em', {}, part.slice(1, -1));
    if (/^\[.+\]\(/.test(part)) return part.slice(1, part.indexOf(']('));
    return part;
  });
}
