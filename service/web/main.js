/** The page: puts the parts together, and asks while the user types. */

import { answer, spoken } from './answer.js';
import { patiently, post, Problem, request } from './api.js';
import { by, el } from './dom.js';
import { EXAMPLES } from './examples.js';
import { cancel, score } from './file.js';
import { fields, Form, plainly } from './form.js';
import { markdown } from './markdown.js';
import { tabs } from './tabs.js';

const PAUSE = 200; // milliseconds without a key before the service is asked
const text = (response) => response.text();

function away(why) {
  if (by('notice').textContent !== (why ?? '')) by('notice').textContent = why ?? ''; // an alert is read whenever it is set
  by('notice').hidden = !why;
}

const schema = (await patiently(() => request('openapi.json'), away)).components.schemas.PatientRecord;
const known = fields(schema);
const form = new Form(by('form'), by('fields'), known, ask);
const empty = [...by('result').childNodes];
const go = tabs((panel) => panel.id === 'about' && about());
let latest = new AbortController();
let model; // what GET /model says, once somebody needs it

/** What the form holds now is asked once the user pauses; an answer to what it held before is never shown. */
async function ask() {
  latest.abort();
  const { signal } = (latest = new AbortController());
  away(null);
  by('result').setAttribute('aria-busy', 'true');
  await new Promise((resolve) => setTimeout(resolve, PAUSE));
  if (signal.aborted) return;
  const record = form.record();
  if (known.some(({ name, nullable }) => !nullable && record[name] === null)) {
    show([], empty, '');
    return;
  }
  try {
    const found = await patiently(() => asked(record, signal), away, signal);
    signal.throwIfAborted();
    show([], answer(found, model), spoken(found));
    by('version').textContent = found.model_version;
    by('by').hidden = false;
  } catch (error) {
    if (signal.aborted) return;
    const errors = error instanceof Problem ? error.errors : [];
    const words = errors.length ? 'No answer: something in the form is wrong.' : error.message;
    show(errors, [el('p.verdict', {}, words)], words, errors.map((one) => plainly(one.detail)).join(' '));
  }
}

function show(errors, nodes, said, more = '') {
  form.refuse(errors);
  by('result').replaceChildren(...nodes);
  by('result').removeAttribute('aria-busy');
  by('by').hidden = true;
  by('spoken').textContent = `${said} ${more}`;
  by('brief').textContent = said;
  by('brief').hidden = !said;
}

/** The answer; `model` is then of the version that answered. */
async function asked(record, signal) {
  const found = await explained(record, signal);
  if (found.model_version !== model?.version) model = await request('model', { signal });
  return found;
}

/** The answer with its reasons, or without where the model has no background to explain with. */
async function explained(record, signal) {
  try {
    return await post('explain', record, signal);
  } catch (error) {
    if (error.status !== 409) throw error;
    return post('predict', record, signal);
  }
}

by('to-about').addEventListener('click', () => go('about'));
by('form').querySelector('.examples').append(
  ...Object.entries(EXAMPLES).map(([name, record]) => {
    const button = el('button.quiet', { type: 'button' }, name);
    button.addEventListener('click', () => form.fill(record));
    return button;
  }),
  el('button.quiet', { type: 'reset' }, 'clear'),
);

by('file-hint').textContent = `The first line names the columns: ${known.map(({ name }) => name).join(', ')}, in any order. Others pass through. An empty cell was not taken.`;
by('file').addEventListener('change', () => by('file').files.length && score(by('file').files[0]));
by('file').addEventListener('click', () => (by('file').value = '')); // the same file may have changed
by('cancel').addEventListener('click', cancel);
by('made-up').addEventListener('click', () => {
  const names = known.map(({ name }) => name);
  const lines = Object.entries(EXAMPLES).map(([id, record]) => [id, ...names.map((name) => record[name] ?? '')].join(','));
  score(new File([['patient', ...names].join(','), '\n', lines.join('\n'), '\n'], 'made-up.csv'));
});
for (const kind of ['dragover', 'dragleave', 'drop']) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // wherever it is dropped: the browser would go there
    by('drop').classList.toggle('over', kind === 'dragover');
    if (kind !== 'drop' || !event.dataTransfer.files.length) return;
    go('table');
    score(event.dataTransfer.files[0]);
  });
}

/** What stands about the model, when it is first looked at. */
async function about() {
  if (by('card').hasChildNodes()) return;
  const card = () => request('model/card', {}, text).catch((error) => (error instanceof Problem ? error.message : Promise.reject(error)));
  const both = await patiently(() => Promise.all([request('clinicians', {}, text), card()]), away);
  ['clinicians', 'card'].forEach((place, i) => by(place).replaceChildren(...markdown(both[i])));
}
