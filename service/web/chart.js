/** Drawings. Each says in words beside it what it shows, so that they are hidden from screen readers. */

import { el, percent } from './dom.js';

/** Columns for shares of 0 to 1, evenly over the width; `chosen` is the one to stress. */
export function columns(shares, chosen) {
  const most = Math.max(...shares, 1e-9);
  const width = 100 / shares.length;
  const bars = shares.map((share, i) => {
    const height = share && Math.max((30 * share) / most, 0.5);
    const box = { x: i * width + width * 0.06, y: 30 - height, width: width * 0.88, height };
    return el(i === chosen ? 'rect.chosen' : 'rect', box);
  });
  return el('svg.columns', { viewBox: '0 0 100 30', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, ...bars);
}

/** The line beneath columns: 0 to 100 %, with the threshold on it, and the patient's place if there is one. */
export function axis(threshold, probability) {
  const at = (selector, share, ...words) => {
    const mark = el(selector, {}, ...words);
    mark.style.left = `${100 * share}%`;
    return mark;
  };
  const marks = [at('span.end', 0, '0 %'), at('span.threshold', threshold, `threshold ${percent(threshold)}`), at('span.end', 1, '100 %')];
  if (probability !== undefined) marks.push(at('span.here', probability));
  return el('div.axis', { 'aria-hidden': 'true' }, ...marks);
}

/** A bar from the middle to the right for what speaks for disease, to the left for what speaks against. */
export function bar(share) {
  const box = { x: share < 0 ? 50 + 50 * share : 50, y: 2, width: Math.max(Math.abs(50 * share), 0.3), height: 8 };
  const middle = el('line', { x1: 50, x2: 50, y1: 0, y2: 12 });
  const attributes = { viewBox: '0 0 100 12', preserveAspectRatio: 'none', 'aria-hidden': 'true' };
  return el('svg.bar', attributes, middle, el(share < 0 ? 'rect.against' : 'rect.for', box));
}
