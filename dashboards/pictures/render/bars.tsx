import { FieldType, formattedValueToString, getFieldDisplayName, getFieldSeriesColor } from '@grafana/data';
import { AXIS, TEXT } from './axes';
import { type Prepared, theme } from './fields';
import { Legend } from './timeline';

const LEFT = 44;
const LEGEND = 22;
const TOP = 14;

/** A group of standing bars for each row of a table. */
export function Bars({ data, options, width, height }: { data: Prepared; options: any; width: number; height: number }) {
  const [frame] = data.frames;
  const by = frame.fields.find((field) => getFieldDisplayName(field, frame) === options.xField) ?? frame.fields[0];
  const bars = frame.fields.filter((field) => field !== by && field.type === FieldType.number);
  const most = Math.max(1, ...bars.flatMap((bar) => bar.values as number[]));
  const plot = height - AXIS - LEGEND - TOP;
  const wide = (width - LEFT - 8) / by.values.length;
  const y = (value: number) => TOP + plot * (1 - value / (most * 1.05));
  const ticks = steps(most);
  const thin = (wide * options.groupWidth) / bars.length;
  const colours = bars.map((bar) => getFieldSeriesColor(bar, theme).color);
  const every = Math.ceil(62 / wide);
  return (
    <svg width={width} height={height}>
      {ticks.map((tick) => (
        <g key={tick}>
          <line x1={LEFT} x2={width - 8} y1={y(tick)} y2={y(tick)} stroke={theme.colors.border.weak} />
          <text {...TEXT} textAnchor="end" x={LEFT - 8} y={y(tick) + 4}>{formattedValueToString(bars[0].display!(tick))}</text>
        </g>
      ))}
      {by.values.map((name, row) => (
        <g key={row}>
          {row % every === 0 && (
            <text {...TEXT} textAnchor="middle" x={LEFT + wide * (row + 0.5)} y={TOP + plot + 17}>{name}</text>
          )}
          {bars.map((bar, number) => {
            const x = LEFT + wide * (row + (1 - options.groupWidth) / 2) + thin * number;
            const value = bar.values[row] as number;
            return (
              <g key={number}>
                <rect x={x} y={y(value)} width={thin * options.barWidth} height={TOP + plot - y(value)} fill={colours[number]} fillOpacity={(bar.config.custom?.fillOpacity ?? 80) / 100} />
                {options.showValue !== 'never' && value !== 0 && (
                  <text {...TEXT} textAnchor="middle" x={x + (thin * options.barWidth) / 2} y={y(value) - 4}>
                    {formattedValueToString(bar.display!(value))}
                  </text>
                )}
              </g>
            );
          })}
        </g>
      ))}
      <Legend items={bars.map((bar, number) => [getFieldDisplayName(bar, frame), colours[number]])} left={LEFT} y={height - 8} />
    </svg>
  );
}

/** About five round numbers from 0 on. */
function steps(most: number): number[] {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough)!);
  return Array.from({ length: Math.floor((most * 1.05) / step) + 1 }, (_, place) => place * step);
}
