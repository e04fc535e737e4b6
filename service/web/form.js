/** The form, generated from the schema of PatientRecord: names, ranges, codes and descriptions come from there alone. */

import { byId, el } from './dom.js';

/**
 * One measurement of the schema.
 * @typedef {{ name: string, title: string, description: string, unit?: string, minimum?: number, maximum?: number,
 *   step: number, codes: [number, string][], nullable: boolean }} Field
 */

/** @returns {Field[]} */
export function readFields(schema) {
  return Object.entries(schema.properties).map(([name, property]) => {
    const type = (property.anyOf ?? [property]).find((one) => one.type !== 'null');
    const codes = (type.enum ?? []).map((code, i) => [code, property.labels[i]]);
    // A code that means "unspecified" is not offered: "not known" covers it.
    const offered = Array.isArray(property.plausible) ? codes.filter(([code]) => property.plausible.includes(code)) : codes;
    const { title, description, unit } = property;
    const { minimum, maximum } = type;
    const step = property.plausible?.step ?? 1;
    return { name, title, description, unit, minimum, maximum, step, codes: offered, nullable: Boolean(property.anyOf) };
  });
}

/** The 13 inputs in `form`. `onChange` is called after every change. */
export class Form {
  constructor(form, parent, fields, onChange) {
    this.form = form;
    this.fields = fields;
    parent.replaceChildren(...fields.map((field) => (field.codes.length ? createChoices(field) : createNumberInput(field))));
    form.addEventListener('input', onChange);
    form.addEventListener('reset', () => setTimeout(onChange)); // the event comes before the reset
    form.addEventListener('submit', (event) => event.preventDefault());
  }

  /** The record entered so far. An invalid number becomes "?", so that the service returns its error message. */
  readRecord() {
    const readValue = ({ name, codes }) => {
      const input = this.form.elements[name];
      if (codes.length) return input.value === '' ? null : Number(input.value);
      return input.validity.badInput ? '?' : input.value === '' ? null : Number(input.value);
    };
    return Object.fromEntries(this.fields.map((field) => [field.name, readValue(field)]));
  }

  fill(record) {
    for (const { name } of this.fields) this.form.elements[name].value = record[name] ?? '';
    this.form.dispatchEvent(new Event('input'));
  }

  /** Show each error beside its field, found by JSON pointer; an empty list clears all errors. */
  showErrors(errors) {
    for (const { name, codes } of this.fields) {
      const message = errors.filter((error) => error.pointer === `/${name}`).map((error) => rephrase(error.detail)).join(' ');
      const place = byId(`${name}-error`);
      if (place.textContent !== message) place.textContent = message; // screen readers announce every assignment
      const control = byId(codes.length ? `${name}-choices` : name);
      if (message) control.setAttribute('aria-invalid', 'true');
      else control.removeAttribute('aria-invalid');
    }
  }
}

/** Reword the service's error messages for a form, which has no null. */
export const rephrase = (detail) => detail
  .replace('a JSON number, not a string: ', '')
  .replaceAll('null if it was not taken', 'leave it blank if you do not know it');

function createNumberInput({ name, title, description, unit, minimum, maximum, step, nullable }) {
  const input = el('input', {
    type: 'number', id: name, name, min: minimum, max: maximum, step, required: !nullable, autocomplete: 'off',
    inputmode: minimum < 0 ? null : 'decimal', // some keyboards for decimals have no minus
    placeholder: nullable ? 'not known' : 'required', 'aria-describedby': `${name}-hint ${name}-error`,
  });
  input.addEventListener('wheel', () => input.blur()); // scrolling on must not change a measurement
  const hint = el('span.unit', { id: `${name}-hint` }, `${unit} `, el('small', {}, `${minimum} to ${maximum}`));
  return createRow(name, el('label', { for: name, title: description }, title), el('div.control', {}, input, hint));
}

function createChoices({ name, title, description, codes, nullable }) {
  const options = nullable ? [...codes, ['', 'not known']] : codes;
  const pills = options.map(([code, label]) =>
    el('label', {}, el('input', { type: 'radio', name, value: code, checked: code === '', required: !nullable }), el('span', {}, label)),
  );
  const described = { 'aria-labelledby': `${name}-title`, 'aria-describedby': `${name}-error` };
  const group = el('div.choices', { role: 'radiogroup', id: `${name}-choices`, ...described, 'aria-required': !nullable && 'true' }, ...pills);
  return createRow(name, el('span.label', { id: `${name}-title`, title: description }, title), group);
}

const createRow = (name, label, control) => el('div.field', {}, label, control, el('p.error', { id: `${name}-error` }));
