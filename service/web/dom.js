/** Create elements. Text is only ever set as text: nothing that is received becomes markup. */

const SVG = new Set(['svg', 'rect', 'line', 'path']);

/**
 * Create an element: `el('p.hint', { id: 'x' }, 'text', other)`. Attributes that are null or false are left out.
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

export const byId = (id) => document.getElementById(id);

/** Create a table: `head` names the columns, the first cell of each row is its header. */
export function createTable(caption, head, rows) {
  const heads = head.some(Boolean) ? [el('thead', {}, el('tr', {}, ...head.map((cell) => (cell ? el('th', { scope: 'col' }, cell) : el('td')))))] : [];
  const lines = rows.map(([first, ...rest]) => el('tr', {}, el('th', { scope: 'row' }, first), ...rest.map((cell) => el('td', {}, cell))));
  return el('table', {}, ...(caption ? [el('caption', {}, caption)] : []), ...heads, el('tbody', {}, ...lines));
}

/** Wrap a table that may be wider than the page, so that it scrolls, by keyboard too. */
export const makeScrollable = (table) =>
  el('div.scroll', { role: 'group', 'aria-label': table.caption?.textContent ?? 'Table', tabindex: 0 }, table);

/** A share in per cent, with enough digits to distinguish it from `other`: 49.96 % is not the threshold 50 %. */
export function formatPercent(share, other = NaN) {
  let digits = 0;
  const format = (value) => (100 * value).toFixed(digits);
  while (digits < 4 && share !== other && format(share) === format(other)) digits += 1;
  if (digits === 0 && share > 0 && share < 0.005) return 'under 1\u00a0%';
  if (digits === 0 && share < 1 && share >= 0.995) return 'over 99\u00a0%';
  return `${format(share)}\u00a0%`;
}
