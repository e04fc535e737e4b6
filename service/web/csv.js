/** Split CSV text after whole records, and parse it, by the rules of the service (docs/tables.md). */

// Inside a cell a quote is an ordinary character.
const QUOTED = Object.fromEntries([',', ';', '\t'].map((separator) => [separator, new RegExp(`(?<![^${separator}\\r\\n])"[^"]*(?:""[^"]*)*("|$)`, 'g')]));
const NOTES = /^(?:(?:# [^\r\n]*|#[^\r\n,;\t]*|"?sep=[^\r\n]"?[,;\t]*|[,;\t ]*)[\r\n]+)*/i;
const LINE = /^(?:(?<![^,;\t\r\n])"[^"]*(?:""[^"]*)*"(?!")|(?!(?<![^,;\t\r\n])")[^\r\n])*(?:\r\n|\r|\n)/;
const CELL = /(?:"([^"]*(?:""[^"]*)*)"|([^,\n]*))(,|\n|$)/g;

/** The index after the last whole record of a text that begins with one; 0 if it holds none. */
export function findRecordEnd(text, separator = ',') {
  const quoted = text.includes('"') ? [...text.matchAll(QUOTED[separator])].map((cell) => [cell.index, cell.index + cell[0].length]) : [];
  let at = text.length;
  while (at > 0) {
    at = Math.max(text.lastIndexOf('\n', at - 1), text.lastIndexOf('\r', at - 1)) + 1;
    while (quoted.length && quoted.at(-1)[0] >= at) quoted.pop();
    if (!quoted.length || quoted.at(-1)[1] < at) return at;
    at = quoted.at(-1)[0];
  }
  return 0;
}

/** Split a table into its header line (empty if there is none) and its rows; notes and blank lines before it are dropped. */
export function splitHeader(text) {
  const table = text.replace(NOTES, '');
  const header = LINE.exec(table)?.[0] ?? '';
  return [header, table.slice(header.length)];
}

/** What separates the names of a header: the most frequent of the characters that may. */
const findSeparator = (header) => Object.keys(QUOTED).reduce((best, one) => (header.split(one).length > header.split(best).length ? one : best));

/** The records of a response, as arrays of cells. */
export function* parseRecords(text) {
  if (!text.includes('"')) {
    for (const line of text.split('\n')) if (line) yield line.split(',');
    return;
  }
  let row = [];
  for (const [, quoted, plain, after] of text.matchAll(CELL)) {
    if (!after && !row.length && !plain && quoted === undefined) return;
    row.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (after === ',') continue;
    yield row;
    row = [];
  }
}

/** Split text into parts of at least `size` characters that end after whole records; the last part is the rest. */
export async function* splitIntoParts(chunks, size) {
  let [text, separator] = ['', ''];
  for await (const chunk of chunks) {
    text += chunk;
    if (text.length < size) continue;
    separator ||= findSeparator(splitHeader(text)[0]);
    const cut = findRecordEnd(text, separator);
    if (!cut && text.length < 8 * size) continue; // a long record; the service rejects one that never ends
    yield text.slice(0, cut || text.length);
    text = text.slice(cut || text.length);
  }
  if (text) yield text;
}
