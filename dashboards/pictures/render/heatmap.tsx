import { type TimeRange, formattedValueToString, getFieldDisplayName, getValueFormat } from '@grafana/data';
import { interpolateTurbo, interpolateOranges, interpolateSpectral, interpolateViridis } from 'd3-scale-chromatic';
import { AXIS, TEXT, TimeAxis } from './axes';
import type { Prepared } from './fields';

const SCHEMES: Record<string, (share: number) => string> = {
  Oranges: interpolateOranges,
  Spectral: interpolateSpectral,
  Turbo: interpolateTurbo,
  Viridis: interpolateViridis,
};
const LEFT = 70;
const LEGEND = 34;

interface Props {
  data: Prepared;
  options: any;
  range: TimeRange;
  width: number;
  height: number;
}

/** A row for each series, a column for each time: the darker the cell, the more. */
export function HeatMap({ data, options, range, width, height }: Props) {
  const [frame] = data.frames;
  const [times, ...rows] = frame.fields;
  const all = rows.flatMap((row) => row.values as Array<number | null>);
  const most = Math.max(1, ...all.map((value) => value ?? 0));
  const scheme = SCHEMES[options.color.scheme] ?? interpolateOranges;
  const colour = (value: number) => {
    const share = (value / most) ** (options.color.scale === 'exponential' ? options.color.exponent : 1);
    return scheme(options.color.reverse ? 1 - share : share);
  };
  const [from, to] = [range.from.valueOf(), range.to.valueOf()];
  const x = (time: number) => LEFT + ((time - from) / (to - from)) * (width - LEFT - 8);
  const step = Math.min(...times.values.slice(1).map((time, place) => time - times.values[place]));
  const plot = height - AXIS - LEGEND;
  const tall = plot / rows.length;
  const gap = options.cellGap ?? 1;
  const format = getValueFormat(options.cellValues?.unit ?? 'short');
  return (
    <svg width={width} height={height}>
      {rows.map((row, number) => {
        const y = plot - (number + 1) * tall;
        return (
          <g key={number}>
            <text {...TEXT} textAnchor="end" x={LEFT - 8} y={y + tall / 2 + 4}>
              {getFieldDisplayName(row, frame)}
            </text>
            {row.values.map((value, place) => {
              const start = Math.max(LEFT, x(times.values[place]));
              const end = Math.min(width - 8, x(times.values[place] + step));
              const isEmpty = value == null || Math.abs(value) <= (options.filterValues?.le ?? 0) || end <= start;
              return isEmpty ? null : (
                <rect key={place} x={start} y={y} width={end - start - gap} height={tall - gap} fill={colour(value)} />
              );
            })}
          </g>
        );
      })}
      <TimeAxis range={range} left={LEFT} width={width - LEFT - 8} y={plot} />
      <Scale left={LEFT} y={height - LEGEND + 6} colour={colour} most={most} text={(value) => formattedValueToString(format(value, 0))} />
    </svg>
  );
}

function Scale(props: { left: number; y: number; colour: (value: number) => string; most: number; text: (value: number) => string }) {
  const { left, y, colour, most, text } = props;
  const steps = 60;
  return (
    <g>
      {Array.from({ length: steps }, (_, step) => (
        <rect key={step} x={left + step * 4} y={y} width={4} height={9} fill={colour((step / (steps - 1)) * most)} />
      ))}
      <text {...TEXT} x={left} y={y + 23}>{text(0)}</text>
      <text {...TEXT} textAnchor="end" x={left + steps * 4} y={y + 23}>{text(most)}</text>
    </g>
  );
}
