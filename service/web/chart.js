/** Charts as SVG. Text beside each chart says the same, so charts are hidden from screen readers. */

import { el, formatPercent } from './dom.js';

/** A column chart of shares from 0 to 1; `highlighted` is the index of the column to highlight. */
export function drawColumns(shares, highlighted) {
  const largest = Math.max(...shares, 1e-9);
  const width = 100 / shares.length;
  const bars = shares.map((share, i) => {
    const height = share && Math.max((30 * share) / largest, 0.5);
    const box = { x: i * width + width * 0.06, y: 30 - height, width: width * 0.88, height };
    return el(i === highlighted ? 'rect.chosen' : 'rect', box);
  });
  return el('svg.columns', { viewBox: '0 0 100 30', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, ...bars);
}

/** The axis below a column chart, 0 to 100 %, with the threshold and optionally the patient's probability. */
export function drawAxis(threshold, probability) {
  const createMark = (selector, share, ...text) => {
    const mark = el(selector, {}, ...text);
    mark.style.left = `${100 * share}%`;
    return mark;
  };
  const marks = [createMark('span.end', 0, '0 %'), createMark('span.threshold', threshold, `threshold ${formatPercent(threshold)}`), createMark('span.end', 1, '100 %')];
  if (probability !== undefined) marks.push(createMark('span.here', probability));
  return el('div.axis', { 'aria-hidden': 'true' }, ...marks);
}

/** A bar from the middle to the right for a share above 0, to the left for one below. */
export function drawBar(share) {
  const box = { x: share < 0 ? 50 + 50 * share : 50, y: 2, width: Math.max(Math.abs(50 * share), 0.3), height: 8 };
  const middle = el('line', { x1: 50, x2: 50, y1: 0, y2: 12 });
  const attributes = { viewBox: '0 0 100 12', preserveAspectRatio: 'none', 'aria-hidden': 'true' };
  return el('svg.bar', attributes, middle, el(share < 0 ? 'rect.against' : 'rect.for', box));
}
