// What answers.py hands over: a dashboard, and with each panel what its queries returned.

import type { FieldConfigSource, ThresholdsConfig } from '@grafana/data';

export interface AnsweredField {
  name: string;
  type: 'time' | 'number' | 'boolean' | 'string';
  values: unknown[];
  labels?: Record<string, string>;
}

export interface AnsweredFrame {
  refId: string;
  fields: AnsweredField[];
}

export interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  options: any; // each type of panel has its own, free-form in Grafana's schema too
  fieldConfig: FieldConfigSource;
  frames: AnsweredFrame[];
}

export interface Dashboard {
  title: string;
  from: number;
  to: number;
  variables: Array<{ label: string; text: string }>;
  annotations: Array<{ color: string; frame: AnsweredFrame }>;
  panels: Panel[];
}

/** JSON has no -Infinity: a first threshold without a value starts there. */
export function withInfinity(config: FieldConfigSource): FieldConfigSource {
  const mended = structuredClone(config ?? { defaults: {}, overrides: [] });
  mend(mended.defaults.thresholds);
  for (const rule of mended.overrides) {
    for (const property of rule.properties) {
      if (property.id === 'thresholds') {
        mend(property.value);
      }
    }
  }
  return mended;
}

function mend(thresholds: ThresholdsConfig | undefined): void {
  const first = thresholds?.steps[0];
  if (first && first.value === null) {
    first.value = -Infinity;
  }
}
