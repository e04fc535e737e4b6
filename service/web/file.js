/** A file of patients: through the service, and what came of it. */

import { Away, patiently, Problem, request } from './api.js';
import { axis, columns } from './chart.js';
import { headed, parts, records } from './csv.js';
import { by, el, percent, table, wide } from './dom.js';
import { plainly } from './form.js';

// A browser reads an answer only once it has sent the whole request, while the service sends as it reads and waits for
// whoever does not. So text goes in parts that the service takes in without waiting; Parquet it takes in as a whole.
const PART = 2 ** 19; // characters, 2 MiB of UTF-8 at most
const PARQUET = 'application/vnd.apache.parquet';
const WAY = 'predict/batch?on_error=report&keep=*';
const SHOWN = 20; // rows
const LISTED = 100; // bad rows
const BINS = 20;
const KEPT = 2 ** 30; // bytes of the answer that are collected for the download

let running = new AbortController();
let download = '';

/** Score a file and show it. Whatever runs is cancelled first. */
export async function score(file) {
  running.abort();
  const { signal } = (running = new AbortController());
  const done = new Tally();
  const began = performance.now();
  const seconds = () => (performance.now() - began) / 1000;
  start(file);
  try {
    for await (const part of answers(file, signal)) {
      signal.throwIfAborted();
      done.take(part);
      progress(part.sent / file.size, done.rows, seconds());
      show(done);
    }
    finish(done, file, seconds());
  } catch (error) {
    if (running.signal !== signal) return; // another file has taken its place
    const said = signal.aborted ? 'Cancelled' : explained(error);
    by('file-error').textContent = `${said}${done.rows ? ` after ${done.rows.toLocaleString()} rows` : ''}.`;
  }
  by('progress').hidden = true;
}

/** End what runs. */
export const cancel = () => running.abort();

/** The answers as CSV text, by and by. */
async function* answers(file, signal) {
  let version;
  for await (const { body, type, sent } of bodies(file)) {
    const options = { method: 'POST', body, signal, headers: { 'Content-Type': type, Accept: 'text/csv' } };
    const whole = async (response) => [response, type === PARQUET ? response.body : [await response.text()]];
    const [response, chunks] = await patiently(() => request(WAY, options, whole), (why) => (by('speed').textContent = why ?? ''), signal);
    const serves = response.headers.get('X-Model-Version');
    if ((version ??= serves) !== serves) throw new Error(`The model changed from version ${version} to ${serves}: begin again`);
    const threshold = Number(response.headers.get('X-Threshold'));
    let header;
    for await (let text of type === PARQUET ? parts(chunks.pipeThrough(new TextDecoderStream()), PART) : chunks) {
      if (!header) [header, text] = headed(text);
      yield { header, text, sent, version, threshold };
    }
  }
}

/** What is sent, each with how many bytes of the file are then sent. */
async function* bodies(file) {
  if ((await file.slice(0, 4).text()) === 'PAR1') {
    yield { body: file, type: PARQUET, sent: NaN };
    return;
  }
  let [header, sent] = ['', 0];
  for await (let text of parts(file.stream().pipeThrough(new TextDecoderStream('utf-8', { fatal: true })), PART)) {
    sent += new Blob([text]).size;
    if (!header) [header, text] = headed(text);
    else if (!text.trim()) continue; // blank lines at the end are no table
    yield { body: header + text, type: 'text/csv', sent };
  }
  if (!sent) yield { body: '', type: 'text/csv', sent };
}

/** What has come so far. */
class Tally {
  rows = 0;
  ill = 0;
  bins = new Array(BINS).fill(0);
  bad = [];
  refused = 0;
  first = [];
  texts = [];
  bytes = 0;

  take({ header, text, version, threshold }) {
    if (!this.names) [this.names] = records(header);
    Object.assign(this, { version, threshold });
    const [probability, ill, error] = ['probability', 'heart_disease', 'error'].map((name) => this.names.indexOf(name));
    for (const row of records(text)) {
      this.rows += 1;
      if (this.first.length < SHOWN) this.first.push([this.rows, ...row]);
      if (row[error]) {
        this.refused += 1;
        if (this.bad.length < LISTED) this.bad.push([String(this.rows), plainly(row[error])]);
      } else {
        this.ill += row[ill] === 'true';
        this.bins[Math.min(Math.floor(row[probability] * BINS), BINS - 1)] += 1;
      }
    }
    const blob = new Blob([...(this.bytes ? [] : [header]), text]); // the browser keeps these on disk
    this.bytes += blob.size;
    if (this.bytes <= KEPT) this.texts.push(blob);
    else this.texts = [];
  }
}

function start(file) {
  URL.revokeObjectURL(download);
  by('rows').replaceChildren();
  by('file-error').textContent = '';
  by('file-spoken').textContent = `Scoring ${file.name}`;
  by('speed').textContent = 'Sending …';
  by('bar').removeAttribute('value');
  by('progress').hidden = false;
}

function progress(share, rows, seconds) {
  if (share <= 1) by('bar').value = share;
  by('speed').textContent = `${rows.toLocaleString()} rows, ${Math.round(rows / seconds).toLocaleString()} rows/s`;
}

function finish(done, file, seconds) {
  const speed = Math.round(done.rows / seconds).toLocaleString();
  by('file-spoken').textContent = `Done: ${summary(done)}`;
  const said = el('p.hint', {}, `${done.rows.toLocaleString()} rows in ${seconds.toFixed(1)} s (${speed} rows/s), by model version ${done.version}.`);
  let offer = el('p.notice', {}, 'The answer is too large for a browser to collect: use the command line for this file.');
  if (done.texts.length) {
    download = URL.createObjectURL(new Blob(done.texts, { type: 'text/csv' }));
    const name = `${file.name.replace(/\.\w+$/, '')}-scored.csv`;
    offer = el('a.button', { href: download, download: name }, 'Download the answers (CSV)');
  }
  by('rows').prepend(said, offer);
}

function summary({ rows, refused, ill, threshold }) {
  const scored = rows - refused;
  const share = scored ? ` ${percent(ill / scored)} of them at or above the threshold of ${percent(threshold)}.` : '';
  const bad = refused ? ` ${refused.toLocaleString()} bad ${refused === 1 ? 'row' : 'rows'} without an answer.` : '';
  return `${scored.toLocaleString()} ${scored === 1 ? 'patient' : 'patients'} scored.${share}${bad}`;
}

function show(done) {
  const { bins, rows, refused, bad, names, first, threshold } = done;
  const scored = Math.max(rows - refused, 1);
  const counts = bins.map((count, i) => [`${(100 * i) / BINS} to ${(100 * (i + 1)) / BINS} %`, count.toLocaleString()]);
  const inNumbers = el('details', {}, el('summary', {}, 'In numbers'), table('Patients by probability', ['Probability', 'Patients'], counts));
  inNumbers.open = by('rows').querySelector('details')?.open ?? false;
  const caption = el('figcaption', {}, 'How many patients have which probability');
  const drawn = el('figure', {}, columns(bins.map((count) => count / scored)), axis(threshold), caption, inNumbers);
  const parts = [el('p.verdict', {}, summary(done)), drawn];
  if (refused) parts.push(table(refused > LISTED ? `Bad rows, the first ${LISTED}` : 'Bad rows', ['Row', 'What is wrong'], bad));
  parts.push(wide(table(rows > SHOWN ? `The first ${SHOWN} rows` : 'Rows', ['Row', ...names], first.map((row) => row.map(String)))));
  by('rows').replaceChildren(...parts);
}

function explained(error) {
  if (error instanceof Problem) return [error.message, ...error.errors.map((one) => one.detail)].join(' ').replace(/\.$/, '');
  if (error instanceof Away) return error.message.replace(/\.$/, '');
  if (error instanceof TypeError) return 'The file is neither Parquet nor text in UTF-8, or the answer was cut off';
  return error.message;
}
