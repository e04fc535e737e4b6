/** Split CSV text after whole records, and parse it, by the rules of the service (RFC 4180). */

const QUOTED = /(?<![^,\r\n])"[^"]*(?:""[^"]*)*("|$)/g; // elsewhere in a cell a quote is an ordinary character
const COMMENTS = /^(?:(?:# [^\r\n]*)?[\r\n])*/;
const LINE = /^(?:[^"\r\n]|"[^"]*")*(?:\r\n|\r|\n)/;
const CELL = /(?:"([^"]*(?:""[^"]*)*)"|([^,\n]*))(,|\n|$)/g;

/** The index after the last whole record of a text that begins with one; 0 if it holds none. */
export function findRecordEnd(text) {
  const quoted = text.includes('"') ? [...text.matchAll(QUOTED)].map((cell) => [cell.index, cell.index + cell[0].length]) : [];
  let at = text.length;
  while (at > 0) {
    at = Math.max(text.lastIndexOf('\n', at - 1), text.lastIndexOf('\r', at - 1)) + 1;
    while (quoted.length && quoted.at(-1)[0] >= at) quoted.pop();
    if (!quoted.length || quoted.at(-1)[1] < at) return at;
    at = quoted.at(-1)[0];
  }
  return 0;
}

/** Split a table into its header line (empty if there is none) and its rows; comment lines before it are dropped. */
export function splitHeader(text) {
  const table = text.replace(COMMENTS, '');
  const header = LINE.exec(table)?.[0] ?? '';
  return [header, table.slice(header.length)];
}

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
  let text = '';
  for await (const chunk of chunks) {
    text += chunk;
    if (text.length < size) continue;
    const cut = findRecordEnd(text);
    if (!cut && text.length < 8 * size) continue; // a long record; the service rejects one that never ends
    yield text.slice(0, cut || text.length);
    text = text.slice(cut || text.length);
  }
  if (text) yield text;
}
