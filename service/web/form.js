/** The form, made from the schema of PatientRecord: what a field is called, takes and means stands there alone. */

import { el } from './dom.js';

/**
 * One measurement, as the schema describes it.
 * @typedef {{ name: string, title: string, description: string, unit?: string, minimum?: number, maximum?: number,
 *   step: number, codes: [number, string][], nullable: boolean }} Field
 */

/** @returns {Field[]} */
export function fields(schema) {
  return Object.entries(schema.properties).map(([name, property]) => {
    const type = (property.anyOf ?? [property]).find((one) => one.type !== 'null');
    const codes = (type.enum ?? []).map((code, i) => [code, property.labels[i]]);
    // A code that no finding stands for is not offered beside "not taken".
    const offered = Array.isArray(property.plausible) ? codes.filter(([code]) => property.plausible.includes(code)) : codes;
    const { title, description, unit } = property;
    const { minimum, maximum } = type;
    const step = property.plausible?.step ?? 1;
    return { name, title, description, unit, minimum, maximum, step, codes: offered, nullable: Boolean(property.anyOf) };
  });
}

/** The 13 inputs in `form`, and what can be done with them. `changed` is called after every change. */
export class Form {
  constructor(form, place, list, changed) {
    this.form = form;
    this.fields = list;
    place.replaceChildren(...list.map((field) => (field.codes.length ? choices(field) : number(field))));
    form.addEventListener('input', changed);
    form.addEventListener('reset', () => setTimeout(changed)); // it is told before it is done
    form.addEventListener('submit', (event) => event.preventDefault());
  }

  /** The record as it is typed; what is no number goes as "?", so that the service finds the words for it. */
  record() {
    const value = ({ name, codes }) => {
      const input = this.form.elements[name];
      if (codes.length) return input.value === '' ? null : Number(input.value);
      return input.validity.badInput ? '?' : input.value === '' ? null : Number(input.value);
    };
    return Object.fromEntries(this.fields.map((field) => [field.name, value(field)]));
  }

  /** Show a record. */
  fill(record) {
    for (const { name } of this.fields) this.form.elements[name].value = record[name] ?? '';
    this.form.dispatchEvent(new Event('input'));
  }

  /** Say what is wrong, beside each field, from the service's JSON pointers; an empty list: nothing is. */
  refuse(errors) {
    for (const { name, codes } of this.fields) {
      const said = errors.filter((error) => error.pointer === `/${name}`).map((error) => plainly(error.detail));
      const place = document.getElementById(`${name}-error`);
      if (place.textContent !== said.join(' ')) place.textContent = said.join(' ');
      const control = document.getElementById(codes.length ? `${name}-choices` : name);
      if (said.length) control.setAttribute('aria-invalid', 'true');
      else control.removeAttribute('aria-invalid');
    }
  }
}

/** The words for a form: people know no null. */
export const plainly = (detail) => detail.replaceAll('null if it was not taken', 'leave it empty if it was not taken');

function number({ name, title, description, unit, minimum, maximum, step, nullable }) {
  const input = el('input', {
    type: 'number', id: name, name, min: minimum, max: maximum, step, required: !nullable, autocomplete: 'off',
    inputmode: minimum < 0 ? null : 'decimal', // some keyboards for decimals have no minus
    placeholder: nullable ? 'not taken' : 'needed', 'aria-describedby': `${name}-hint ${name}-error`,
  });
  input.addEventListener('wheel', () => input.blur()); // scrolling on must not change a measurement
  const hint = el('span.unit', { id: `${name}-hint` }, `${unit} `, el('small', {}, `${minimum} to ${maximum}`));
  return row(name, el('label', { for: name, title: description }, title), el('div.control', {}, input, hint));
}

function choices({ name, title, description, codes, nullable }) {
  const options = nullable ? [...codes, ['', 'not taken']] : codes;
  const pills = options.map(([code, label]) =>
    el('label', {}, el('input', { type: 'radio', name, value: code, checked: code === '', required: !nullable }), el('span', {}, label)),
  );
  const described = { 'aria-labelledby': `${name}-title`, 'aria-describedby': `${name}-error` };
  const group = el('div.choices', { role: 'radiogroup', id: `${name}-choices`, ...described, 'aria-required': !nullable && 'true' }, ...pills);
  return row(name, el('span.label', { id: `${name}-title`, title: description }, title), group);
}

const row = (name, label, control) => el('div.field', {}, label, control, el('p.error', { id: `${name}-error` }));
