/** Elements in few words. Text is only ever set as text: nothing that comes from anywhere becomes markup. */

const SVG = new Set(['svg', 'rect', 'line', 'path']);

/**
 * A new element: `el('p.hint', { id: 'x' }, 'words', other)`. Attributes that are null or false are left out.
 * @param {string} tag with classes
 * @param {Record<string, string | number | boolean | null | undefined>} attributes
 * @param {...(Node | string)} children
 */
export function el(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split('.');
  const node = SVG.has(name) ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  if (classes.length) node.setAttribute('class', classes.join(' '));
  for (const [key, value] of Object.entries(attributes)) {
    if (value != null && value !== false) node.setAttribute(key, value === true ? '' : String(value));
  }
  node.append(...children);
  return node;
}

/** The element of this id. */
export const by = (id) => document.getElementById(id);

/** A table: `head` names the columns, the first cell of each row is its name. */
export function table(caption, head, rows) {
  const heads = head.some(Boolean) ? [el('thead', {}, el('tr', {}, ...head.map((cell) => (cell ? el('th', { scope: 'col' }, cell) : el('td')))))] : [];
  const lines = rows.map(([first, ...rest]) => el('tr', {}, el('th', { scope: 'row' }, first), ...rest.map((cell) => el('td', {}, cell))));
  return el('table', {}, ...(caption ? [el('caption', {}, caption)] : []), ...heads, el('tbody', {}, ...lines));
}

/** One that may be wider than the page: it scrolls, by keyboard too. */
export const wide = (made) =>
  el('div.scroll', { role: 'group', 'aria-label': made.caption?.textContent ?? 'Table', tabindex: 0 }, made);

/** A share in per cent, with as many digits as keep it apart from `beside`: 49.96 % is not the threshold 50 %. */
export function percent(share, beside = NaN) {
  let digits = 0;
  const shown = (value) => (100 * value).toFixed(digits);
  while (digits < 4 && share !== beside && shown(share) === shown(beside)) digits += 1;
  if (digits === 0 && share > 0 && share < 0.005) return 'under 1\u00a0%';
  if (digits === 0 && share < 1 && share >= 0.995) return 'over 99\u00a0%';
  return `${shown(share)}\u00a0%`;
}
