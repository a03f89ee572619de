// Drawn by hand: @grafana/ui has neither heat map, bars of a table, nor state timeline; they are panels of Grafana's own.

import { dateTimeFormat, type TimeRange } from '@grafana/data';
import { theme, TIME_ZONE } from './fields';

export const TEXT = { fill: theme.colors.text.primary, fontSize: 12, fontFamily: theme.typography.fontFamily };
export const AXIS = 24;
const HOURS = [1, 3, 6, 12, 24, 48, 168].map((hours) => hours * 3_600_000);

/** Ticks of whole hours or days, at least 60 pixels apart. */
export function TimeAxis({ range, left, width, y }: { range: TimeRange; left: number; width: number; y: number }) {
  const [from, to] = [range.from.valueOf(), range.to.valueOf()];
  const step = HOURS.find((step) => ((to - from) / step) * 60 <= width) ?? HOURS.at(-1)!;
  const ticks = [];
  for (let time = Math.ceil(from / step) * step; time <= to; time += step) {
    ticks.push(time);
  }
  return ticks.map((time) => (
    <text key={time} {...TEXT} textAnchor="middle" x={left + ((time - from) / (to - from)) * width} y={y + 17}>
      {dateTimeFormat(time, { timeZone: TIME_ZONE, format: step >= 86_400_000 ? 'MM/DD' : 'HH:mm' })}
    </text>
  ));
}
