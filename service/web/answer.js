/** Show the prediction for one patient and its explanation. */

import { drawAxis, drawBar, drawColumns } from './chart.js';
import { createTable, el, formatPercent } from './dom.js';

/**
 * The elements that show a response of /explain, or of /predict if the model cannot explain.
 * @param {object} model GET /model
 */
export function renderAnswer(result, model) {
  const { contributions, changes } = result;
  return [
    ...renderVerdict(result, model),
    ...(contributions ? renderContributions(result) : [el('p.hint', {}, 'This version of the model cannot explain its predictions.')]),
    ...(changes ? [...renderMissing(result), ...renderChanges(result)] : []),
  ];
}

const PREDICTION = /\. The model would predict .*/; // of a label; the number says it

/** The service says "not taken"; the form offers "not known". */
const rephraseUnknown = (label) => label.replace(/ not taken$/, ' not known');

const side = ({ threshold, heart_disease: atOrAbove }) => `${atOrAbove ? 'at or above' : 'below'} the threshold of ${formatPercent(threshold)}`;

/** The prediction in one sentence, for screen readers. */
export const summarize = (result) => `${formatPercent(result.probability, result.threshold)}, ${side(result)}`;

function renderVerdict(result, model) {
  const { probability, threshold } = result;
  const number = el('p.number', {}, el('strong', {}, formatPercent(probability, threshold)), el('span', {}, 'probability of heart disease'));
  const verdict = side(result);
  return [number, el('p.verdict', {}, `${verdict[0].toUpperCase()}${verdict.slice(1)}.`), renderScale(result, model)];
}

/** The probability among those of the training patients. */
function renderScale({ probability, threshold }, model) {
  const bins = model.bins.probability;
  if (!bins) return el('figure', {}, drawAxis(threshold, probability));
  const ends = [0, ...bins.upper, 1];
  const bin = bins.upper.filter((upper) => probability > upper).length;
  const [share, ill] = [bins.share[bin], bins.ill[bin]];
  const outcome = ill == null ? '' : ` Of those, ${formatPercent(ill)} had heart disease.`;
  const range = `${Math.round(100 * ends[bin])} to ${formatPercent(ends[bin + 1])}`;
  const caption = `${formatPercent(share)} of the ${model.data.rows} patients used to build the model also scored ${range}.${outcome}`;
  return el('figure', {}, drawColumns(bins.share, bin), drawAxis(threshold, probability), el('figcaption', {}, caption));
}

function renderContributions({ contributions, base_probability: base }) {
  const largest = Math.max(...contributions.map((one) => Math.abs(one.contribution)), 1e-9);
  const rows = contributions.map(({ contribution, label }) => [rephraseUnknown(label), drawBar(contribution / largest), describeEffect(contribution)]);
  const hint = `Starting from ${formatPercent(base)}, the average of the model's reference patients, each finding raises or lowers the odds; together they give the result above.`;
  const table = createTable('', ['Finding', 'lowers | raises', 'Odds'], rows);
  return [el('h3', {}, 'What raises and what lowers this estimate'), el('p.hint', {}, hint), el('div.reasons', {}, table)];
}

/** What a contribution to the log-odds does to the odds. */
function describeEffect(contribution) {
  const factor = Math.exp(Math.abs(contribution));
  const shown = factor.toFixed(factor < 10 ? 1 : 0);
  if (shown === '1.0') return 'almost none';
  return contribution > 0 ? `raises × ${shown}` : `lowers ÷ ${shown}`;
}

/** The range of the probability if one more measurement were known. */
function renderMissing({ missing, changes, contributions, threshold }) {
  const unknown = changes.filter((change) => missing.includes(change.feature));
  if (!unknown.length) return [];
  const rows = unknown.map(({ feature, to, low, high }) => {
    const { label } = contributions.find((one) => one.feature === feature);
    return [rephraseUnknown(label), `${formatPercent(low, threshold)}\u00a0to\u00a0${formatPercent(high, threshold)}`, to === null ? 'no' : el('strong', {}, 'possible')];
  });
  const hint = 'If you knew this one result, the estimate would lie in this range.';
  return [el('h3', {}, 'What is missing'), el('p.hint', {}, hint), createTable('', ['Measurement', 'Estimate', `Crosses ${formatPercent(threshold)}`], rows)];
}

function renderChanges({ missing, changes, threshold }) {
  const known = changes.filter((change) => !missing.includes(change.feature));
  if (!known.length) return [];
  const crossing = known.filter((change) => change.to !== null);
  const items = crossing.map(({ label, probability }) => el('li', {}, `${label.replace(PREDICTION, '')}: ${formatPercent(probability, threshold)}`));
  const note = 'This shows how the model behaves when one value changes. It is not medical advice.';
  const none = el('p.hint', {}, 'No single change to the values entered would move the estimate across the threshold.');
  return [el('h3', {}, 'What would move the estimate across the threshold'), ...(items.length ? [el('ul', {}, ...items), el('p.hint', {}, note)] : [none])];
}
