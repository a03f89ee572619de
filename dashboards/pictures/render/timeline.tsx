import { FieldType, getFieldDisplayName, type TimeRange } from '@grafana/data';
import { AXIS, TEXT, TimeAxis } from './axes';
import { type Prepared, theme } from './fields';

interface Props {
  data: Prepared;
  options: any;
  range: TimeRange;
  width: number;
  height: number;
}

const LEGEND = 22;

/** A band for each field: its value from each time to the next, in the value's colour. */
export function Timeline({ data, options, range, width, height }: Props) {
  const [frame] = data.frames;
  const times = frame.fields.find((field) => field.type === FieldType.time)!.values;
  const bands = frame.fields.filter((field) => field.type !== FieldType.time);
  const names = bands.map((band) => getFieldDisplayName(band, frame));
  const left = 12 + 7 * Math.max(...names.map((name) => name.length));
  const [from, to] = [range.from.valueOf(), range.to.valueOf()];
  const x = (time: number) => left + ((Math.min(Math.max(time, from), to) - from) / (to - from)) * (width - left - 8);
  const plot = height - AXIS - LEGEND;
  const tall = plot / bands.length;
  const seen = new Map<string, string>();
  const drawn = bands.map((band, number) => (
    <g key={number}>
      <text {...TEXT} textAnchor="end" x={left - 8} y={tall * (number + 0.5) + 4}>{names[number]}</text>
      {band.values.map((value, place) => {
        const [start, end] = [x(times[place]), x(times[place + 1] ?? to)];
        if (value == null || end <= start) {
          return null;
        }
        const shown = band.display!(value);
        seen.set(shown.text, shown.color!);
        const high = tall * options.rowHeight;
        return (
          <g key={place}>
            <rect x={start} y={tall * number + (tall - high) / 2} width={end - start} height={high} fill={shown.color} fillOpacity={(band.config.custom?.fillOpacity ?? 70) / 100} />
            {end - start > shown.text.length * 7 + 8 && (
              <text {...TEXT} x={start + 5} y={tall * (number + 0.5) + 4} fill={theme.colors.getContrastText(shown.color!)}>{shown.text}</text>
            )}
          </g>
        );
      })}
    </g>
  ));
  return (
    <svg width={width} height={height}>
      {drawn}
      <TimeAxis range={range} left={left} width={width - left - 8} y={plot} />
      <Legend items={[...seen]} left={left} y={height - 8} />
    </svg>
  );
}

export function Legend({ items, left, y }: { items: Array<[string, string]>; left: number; y: number }) {
  let x = left;
  return items.map(([name, colour]) => {
    const place = x;
    x += 34 + name.length * 7;
    return (
      <g key={name}>
        <rect x={place} y={y - 6} width={14} height={4} rx={2} fill={colour} />
        <text {...TEXT} x={place + 20} y={y}>{name}</text>
      </g>
    );
  });
}
