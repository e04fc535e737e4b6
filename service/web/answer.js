/** What the model says of one patient, and why, in words and drawings. */

import { axis, bar, columns } from './chart.js';
import { el, percent, table } from './dom.js';

/**
 * Everything about an answer: of /explain, or of /predict where the model has nothing to explain with.
 * @param {object} model GET /model
 */
export function answer(found, model) {
  const { contributions, changes } = found;
  return [
    ...verdict(found, model),
    ...(contributions ? reasons(found) : [el('p.hint', {}, 'This version of the model has nothing to explain its answers with.')]),
    ...(changes ? [...missing(found), ...others(found)] : []),
  ];
}

/** The answer in a sentence. */
export const spoken = ({ probability, threshold, heart_disease: ill }) =>
  `${percent(probability, threshold)}, ${ill ? 'at or above' : 'below'} the threshold of ${percent(threshold)}`;

function verdict(found, model) {
  const { probability, threshold, heart_disease: ill } = found;
  const number = el('p.number', {}, el('strong', {}, percent(probability, threshold)), el('span', {}, 'probability of heart disease'));
  const words = ill ? 'At or above' : 'Below';
  const said = el('p.verdict', {}, `${words} the threshold of ${percent(threshold)}: the model counts this as ${ill ? '' : 'no '}heart disease.`);
  return [number, said, scale(found, model)];
}

/** The probability among those of the patients that the model learnt from. */
function scale({ probability, threshold }, model) {
  const bins = model.bins.probability;
  if (!bins) return el('figure', {}, axis(threshold, probability));
  const ends = [0, ...bins.upper, 1];
  const place = bins.upper.filter((upper) => probability > upper).length;
  const [share, ill] = [bins.share[place], bins.ill[place]];
  const told = ill == null ? '' : ` ${percent(ill)} of them had heart disease.`;
  const range = `${Math.round(100 * ends[place])} to ${percent(ends[place + 1])}`;
  const caption = `Of the ${model.data.rows} patients that the model learnt from, ${percent(share)} lie at ${range}, as this one does.${told}`;
  return el('figure', {}, columns(bins.share, place), axis(threshold, probability), el('figcaption', {}, caption));
}

function reasons({ contributions, base_probability: base }) {
  const most = Math.max(...contributions.map((one) => Math.abs(one.contribution)), 1e-9);
  const rows = contributions.map(({ contribution, label }) => [label, bar(contribution / most), factor(contribution)]);
  const start = `From ${percent(base)}, the average of patients like those it learnt from, each finding multiplies the odds of disease; together that gives the answer.`;
  return [el('h3', {}, 'What speaks for it and against it'), el('p.hint', {}, start), el('div.reasons', {}, table('', ['Finding', 'against | for', 'Odds'], rows))];
}

/** What a share in the log-odds does to the odds, in words. */
function factor(contribution) {
  const times = Math.exp(Math.abs(contribution));
  const shown = times.toFixed(times < 10 ? 1 : 0);
  if (shown === '1.0') return 'hardly any';
  return `${contribution > 0 ? 'for' : 'against'} ${contribution > 0 ? '×' : '÷'} ${shown}`;
}

/** Where the answer could lie if one more measurement were known. */
function missing({ changes, contributions, threshold }) {
  const gaps = changes.filter((change) => change.value === null);
  if (!gaps.length) return [];
  const rows = gaps.map(({ feature, to, low, high }) => {
    const turns = to === null ? 'not on its own' : el('strong', {}, 'could turn it');
    const { label } = contributions.find((one) => one.feature === feature);
    return [label, `${percent(low, threshold)} to ${percent(high, threshold)}`, turns];
  });
  const said = 'Each of these alone, whatever plausible value it had, would put the answer between these two:';
  return [el('h3', {}, 'What is missing'), el('p.hint', {}, said), table('', ['Measurement', 'Answer', 'Verdict'], rows)];
}

function others({ changes, note, threshold }) {
  const taken = changes.filter((change) => change.value !== null);
  if (!taken.length) return [];
  const turning = taken.filter((change) => change.to !== null);
  const items = turning.map(({ label, probability }) => el('li', {}, `${label} (${percent(probability, threshold)})`));
  const none = el('p.hint', {}, 'Of what was taken, no other plausible value would turn the answer on its own.');
  return [el('h3', {}, 'What would turn the answer'), ...(items.length ? [el('ul', {}, ...items), el('p.hint', {}, note)] : [none])];
}
