// Data frames with the panel's field settings, as Grafana applies them.

import {
  applyFieldOverrides,
  createTheme,
  type DataFrame,
  dateTime,
  FieldConfigOptionsRegistry,
  type FieldConfigSource,
  type FieldConfigPropertyItem,
  FieldType,
  type TimeRange,
} from '@grafana/data';
import { type Panel, withInfinity } from './model';

export const theme = createTheme({ colors: { mode: 'dark' } });
export const TIME_ZONE = 'utc';

export function timeRange(from: number, to: number): TimeRange {
  const range = { from: dateTime(from), to: dateTime(to) };
  return { ...range, raw: range };
}

export interface Prepared {
  frames: DataFrame[];
  fieldConfig: FieldConfigSource;
}

export function prepared(panel: Panel): Prepared {
  const fieldConfig = withInfinity(panel.fieldConfig);
  const data: DataFrame[] = panel.frames.map((frame) => ({
    refId: frame.refId,
    length: frame.fields[0]?.values.length ?? 0,
    fields: frame.fields.map((field) => ({ ...field, type: FieldType[field.type], config: {} })),
  }));
  const frames = applyFieldOverrides({
    data,
    fieldConfig,
    fieldConfigRegistry: registry(fieldConfig),
    replaceVariables: (text) => text,
    theme,
    timeZone: TIME_ZONE,
  });
  return { frames, fieldConfig };
}

/** Grafana's own registry lives in its application: here each property that the panel names is taken as it stands. */
function registry(fieldConfig: FieldConfigSource): FieldConfigOptionsRegistry {
  const { custom = {}, ...standard } = fieldConfig.defaults;
  const ids = new Set([
    ...Object.keys(standard),
    ...Object.keys(custom).map((name) => `custom.${name}`),
    ...fieldConfig.overrides.flatMap((rule) => rule.properties.map((property) => property.id)),
  ]);
  return new FieldConfigOptionsRegistry(() =>
    [...ids].map((id) => {
      const isCustom = id.startsWith('custom.');
      return {
        id,
        path: isCustom ? id.slice('custom.'.length) : id,
        name: id,
        isCustom,
        process: (value: unknown) => value,
        shouldApply: () => true,
        editor: () => null,
        override: () => null,
      } satisfies FieldConfigPropertyItem;
    })
  );
}
