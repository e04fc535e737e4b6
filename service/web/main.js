/** Entry point: wire the page, and predict while the user types. */

import { renderAnswer, summarize } from './answer.js';
import { post, Problem, request, retryWhileUnavailable } from './api.js';
import { byId, el } from './dom.js';
import { EXAMPLES } from './examples.js';
import { cancel, score } from './file.js';
import { Form, readFields, rephrase } from './form.js';
import { renderMarkdown } from './markdown.js';
import { initTabs } from './tabs.js';

const TYPING_PAUSE_MS = 200; // before a request is sent
const PENDING = 'Waiting for the estimate …';
const CORRECT = 'Please correct the highlighted fields.';
const readText = (response) => response.text();

function showNotice(reason) {
  if (byId('notice').textContent !== (reason ?? '')) byId('notice').textContent = reason ?? ''; // screen readers announce every assignment
  byId('notice').hidden = !reason;
}

const schema = (await retryWhileUnavailable(() => request('openapi.json'), showNotice)).components.schemas.PatientRecord;
const fields = readFields(schema);
const form = new Form(byId('form'), byId('fields'), fields, update);
const initialResult = [...byId('result').childNodes];
const openTab = initTabs((panel) => panel.id === 'about' && loadAbout());
let latest = new AbortController();
let model; // GET /model, fetched with the first prediction

/** Remove the old estimate at once, and predict for the form's content when the user pauses. */
async function update() {
  latest.abort();
  const { signal } = (latest = new AbortController());
  showNotice(null);
  const { record, errors } = form.read();
  const isComplete = fields.every(({ name, nullable }) => nullable || record[name] !== null);
  if (isComplete) showPending();
  else showResult(initialResult, '');
  await new Promise((resolve) => setTimeout(resolve, TYPING_PAUSE_MS));
  if (signal.aborted) return;
  if (errors.length) return showErrors(errors);
  form.showErrors([]);
  if (!isComplete) return;
  try {
    const result = await retryWhileUnavailable(() => fetchResult(record, signal), showNotice, signal);
    signal.throwIfAborted();
    showResult(renderAnswer(result, model), summarize(result));
    byId('version').textContent = result.model_version;
    byId('by').hidden = false;
  } catch (error) {
    if (signal.aborted) return;
    if (error.errors?.length) showErrors(error.errors);
    else showResult([el('p.verdict', {}, error.message)], error.message);
  }
}

/** Replace the old estimate by a text of the same height, so that the page does not jump while the user types. */
function showPending() {
  const [height, hasBrief] = [byId('result').offsetHeight, !byId('brief').hidden];
  showResult([el('p.hint', {}, PENDING)], '');
  byId('result').style.minHeight = `${height}px`;
  byId('result').setAttribute('aria-busy', 'true');
  if (hasBrief) byId('brief').textContent = PENDING;
  byId('brief').hidden = !hasBrief;
}

function showErrors(errors) {
  form.showErrors(errors);
  showResult([el('p.verdict', {}, CORRECT)], CORRECT, errors.map((one) => rephrase(one.detail)).join(' '));
}

function showResult(nodes, summary, details = '') {
  byId('result').replaceChildren(...nodes);
  byId('result').removeAttribute('aria-busy');
  byId('result').style.minHeight = '';
  byId('by').hidden = true;
  byId('spoken').textContent = `${summary} ${details}`;
  byId('brief').textContent = summary;
  byId('brief').hidden = !summary;
}

/** Fetch the prediction, and `model` if another version made it. */
async function fetchResult(record, signal) {
  const result = await explainOrPredict(record, signal);
  if (result.model_version !== model?.version) model = await request('model', { signal });
  return result;
}

/** The prediction with its explanation, or without if the model has no background to explain with. */
async function explainOrPredict(record, signal) {
  try {
    return await post('explain', record, signal);
  } catch (error) {
    if (error.status !== 409) throw error;
    return post('predict', record, signal);
  }
}

byId('to-about').addEventListener('click', () => openTab('about'));
byId('form').querySelector('.examples').append(
  ...Object.entries({ ...EXAMPLES, clear: {} }).map(([name, record]) => {
    const button = el('button.quiet', { type: 'button' }, name);
    button.addEventListener('click', () => form.fill(record));
    return button;
  }),
);

byId('file-hint').textContent = `The first row must hold these column names, in any order: ${fields.map(({ name }) => name).join(', ')}. Extra columns are kept. Leave unknown values empty.`;
byId('file').addEventListener('change', () => byId('file').files.length && score(byId('file').files[0]));
byId('file').addEventListener('click', () => (byId('file').value = '')); // so that choosing the same file again fires `change`: it may have been edited
byId('cancel').addEventListener('click', cancel);
byId('made-up').addEventListener('click', () => {
  const names = fields.map(({ name }) => name);
  const lines = Object.entries(EXAMPLES).map(([id, record]) => [id, ...names.map((name) => record[name] ?? '')].join(','));
  score(new File([['patient', ...names].join(','), '\n', lines.join('\n'), '\n'], 'made-up.csv'));
});
for (const type of ['dragover', 'dragleave', 'drop']) {
  document.addEventListener(type, (event) => {
    event.preventDefault(); // anywhere on the page: otherwise the browser opens the file
    byId('drop').classList.toggle('over', type === 'dragover');
    if (type !== 'drop' || !event.dataTransfer.files.length) return;
    openTab('table');
    score(event.dataTransfer.files[0]);
  });
}

/** Load the text about the model when its tab is first opened. */
async function loadAbout() {
  if (byId('card').hasChildNodes()) return;
  const fetchCard = () => request('model/card', {}, readText).catch((error) => (error instanceof Problem ? error.message : Promise.reject(error)));
  const texts = await retryWhileUnavailable(() => Promise.all([request('clinicians', {}, readText), fetchCard()]), showNotice);
  ['clinicians', 'card'].forEach((id, i) => byId(id).replaceChildren(...renderMarkdown(texts[i])));
}
