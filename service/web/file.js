/** Score a file of patients and show the result. */

import { Problem, request, retryWhileUnavailable, Unreachable } from './api.js';
import { drawAxis, drawColumns } from './chart.js';
import { parseRecords, splitHeader, splitIntoParts } from './csv.js';
import { byId, createTable, el, formatPercent, makeScrollable } from './dom.js';
import { rephrase } from './form.js';

// A browser reads a response only after it has sent the whole request, but the service stops reading a stream whose
// response is not read. So text is sent in parts that the service reads without waiting; it buffers Parquet anyway.
const PART_CHARACTERS = 2 ** 19; // 2 MiB of UTF-8 at most
const PARQUET = 'application/vnd.apache.parquet';
const PATH = 'predict/batch?on_error=report&keep=*';
const MAX_SHOWN_ROWS = 20;
const MAX_LISTED_ERRORS = 100;
const BINS = 20;
const MAX_DOWNLOAD_BYTES = 2 ** 30;

let running = new AbortController();
let downloadUrl = '';

/** Score a file and show the result. A file in progress is cancelled first. */
export async function score(file) {
  running.abort();
  const { signal } = (running = new AbortController());
  const total = new Totals();
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  showStart(file);
  try {
    for await (const part of scoreParts(file, signal)) {
      signal.throwIfAborted();
      total.add(part);
      showProgress(part.sent / file.size, total.rows, seconds());
      showTotals(total);
    }
    showEnd(total, file, seconds());
  } catch (error) {
    if (running.signal !== signal) return; // another file has replaced this one
    const reason = signal.aborted ? 'Cancelled' : describeError(error);
    byId('file-error').textContent = `${reason}${total.rows ? ` after ${total.rows.toLocaleString()} rows` : ''}.`;
  }
  byId('progress').hidden = true;
}

export const cancel = () => running.abort();

/** Send a file and yield the scored rows as CSV text, part by part. */
async function* scoreParts(file, signal) {
  let version;
  for await (const { body, type, sent } of readBodies(file)) {
    const options = { method: 'POST', body, signal, headers: { 'Content-Type': type, Accept: 'text/csv' } };
    const read = async (response) => [response, type === PARQUET ? response.body : [await response.text()]];
    const [response, chunks] = await retryWhileUnavailable(() => request(PATH, options, read), (reason) => (byId('speed').textContent = reason ?? ''), signal);
    const current = response.headers.get('X-Model-Version');
    if ((version ??= current) !== current) throw new Error(`The model changed from version ${version} to ${current}: start again`);
    const threshold = Number(response.headers.get('X-Threshold'));
    let header;
    for await (let text of type === PARQUET ? splitIntoParts(chunks.pipeThrough(new TextDecoderStream()), PART_CHARACTERS) : chunks) {
      if (!header) [header, text] = splitHeader(text);
      yield { header, text, sent, version, threshold };
    }
  }
}

/** Split a file into request bodies, each with the number of the file's bytes sent so far. */
async function* readBodies(file) {
  if ((await file.slice(0, 4).text()) === 'PAR1') {
    yield { body: file, type: PARQUET, sent: NaN };
    return;
  }
  let [header, sent] = ['', 0];
  for await (let text of splitIntoParts(file.stream().pipeThrough(new TextDecoderStream('utf-8', { fatal: true })), PART_CHARACTERS)) {
    sent += new Blob([text]).size;
    if (!header) [header, text] = splitHeader(text);
    else if (!/[^,;\s]/.test(text)) continue; // only blank lines: the service would reject them
    yield { body: header + text, type: 'text/csv', sent };
  }
  if (!sent) yield { body: '', type: 'text/csv', sent };
}

/** Counts of the rows scored so far, and the rows to show and to download. */
class Totals {
  rows = 0;
  ill = 0;
  bins = new Array(BINS).fill(0);
  invalid = 0;
  errors = [];
  firstRows = [];
  blobs = [];
  bytes = 0;

  add({ header, text, version, threshold }) {
    if (!this.names) [this.names] = parseRecords(header);
    Object.assign(this, { version, threshold });
    const [probability, ill, error] = ['probability', 'heart_disease', 'error'].map((name) => this.names.indexOf(name));
    for (const row of parseRecords(text)) {
      this.rows += 1;
      if (this.firstRows.length < MAX_SHOWN_ROWS) this.firstRows.push([this.rows, ...row]);
      if (row[error]) {
        this.invalid += 1;
        if (this.errors.length < MAX_LISTED_ERRORS) this.errors.push([String(this.rows), rephrase(row[error])]);
      } else {
        this.ill += row[ill] === 'true';
        this.bins[Math.min(Math.floor(row[probability] * BINS), BINS - 1)] += 1;
      }
    }
    const blob = new Blob([...(this.bytes ? [] : [header]), text]); // the browser keeps these on disk
    this.bytes += blob.size;
    if (this.bytes <= MAX_DOWNLOAD_BYTES) this.blobs.push(blob);
    else this.blobs = [];
  }
}

function showStart(file) {
  URL.revokeObjectURL(downloadUrl);
  byId('rows').replaceChildren();
  byId('file-error').textContent = '';
  byId('file-spoken').textContent = `Scoring ${file.name}`;
  byId('speed').textContent = 'Sending …';
  byId('bar').removeAttribute('value');
  byId('progress').hidden = false;
}

function showProgress(share, rows, seconds) {
  if (share <= 1) byId('bar').value = share;
  byId('speed').textContent = `${rows.toLocaleString()} rows, ${Math.round(rows / seconds).toLocaleString()} rows/s`;
}

function showEnd(total, file, seconds) {
  const speed = Math.round(total.rows / seconds).toLocaleString();
  byId('file-spoken').textContent = `Done: ${summarize(total)}`;
  const speedHint = el('p.hint', {}, `${total.rows.toLocaleString()} rows in ${seconds.toFixed(1)} s (${speed} rows/s), model version ${total.version}.`);
  let download = el('p.notice', {}, 'The result is too large for a browser. Use the command line for this file.');
  if (total.blobs.length) {
    downloadUrl = URL.createObjectURL(new Blob(total.blobs, { type: 'text/csv' }));
    const name = `${file.name.replace(/\.\w+$/, '')}-scored.csv`;
    download = el('a.button', { href: downloadUrl, download: name }, 'Download the results (CSV)');
  }
  byId('rows').prepend(speedHint, download);
}

function summarize({ rows, invalid, ill, threshold }) {
  const scored = rows - invalid;
  const share = scored ? ` ${formatPercent(ill / scored)} of them at or above the threshold of ${formatPercent(threshold)}.` : '';
  const failed = invalid ? ` ${invalid.toLocaleString()} ${invalid === 1 ? 'row' : 'rows'} could not be scored.` : '';
  return `${scored.toLocaleString()} ${scored === 1 ? 'patient' : 'patients'} scored.${share}${failed}`;
}

function showTotals(total) {
  const { bins, rows, invalid, errors, names, firstRows, threshold } = total;
  const scored = Math.max(rows - invalid, 1);
  const counts = bins.map((count, i) => [`${(100 * i) / BINS} to ${(100 * (i + 1)) / BINS} %`, count.toLocaleString()]);
  const details = el('details', {}, el('summary', {}, 'Show as a table'), createTable('Patients by probability', ['Probability', 'Patients'], counts));
  details.open = byId('rows').querySelector('details')?.open ?? false;
  const caption = el('figcaption', {}, 'Number of patients by estimated probability');
  const chart = el('figure', {}, drawColumns(bins.map((count) => count / scored)), drawAxis(threshold), caption, details);
  const parts = [el('p.verdict', {}, summarize(total)), chart];
  if (invalid) parts.push(createTable(invalid > MAX_LISTED_ERRORS ? `Rows to correct, the first ${MAX_LISTED_ERRORS}` : 'Rows to correct', ['Row', 'What is wrong'], errors));
  parts.push(makeScrollable(createTable(rows > MAX_SHOWN_ROWS ? `The first ${MAX_SHOWN_ROWS} rows` : 'Rows', ['Row', ...names], firstRows.map((row) => row.map(String)))));
  byId('rows').replaceChildren(...parts);
}

function describeError(error) {
  if (error instanceof Problem) return [error.message, ...error.errors.map((one) => one.detail)].join(' ').replace(/\.$/, '');
  if (error instanceof Unreachable) return error.message.replace(/\.$/, '');
  if (error instanceof TypeError) return 'The file is neither Parquet nor UTF-8 text, or the response was cut off';
  return error.message;
}
