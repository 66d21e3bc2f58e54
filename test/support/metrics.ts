/** The values of a scrape, by `name{label="value",…}` as the server wrote them. */
export type Scrape = ReadonlyMap<string, number>;

/** Reads the metrics. @throws Error when the server does not answer 200 */
export async function scrape(url: string): Promise<Scrape> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return parseMetrics(await response.text());
}

/** Parses the text format of Prometheus. @throws Error for a line that has another form, or that occurs twice */
export function parseMetrics(text: string): Scrape {
  const values = new Map<string, number>();
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("# ")) continue;
    const [, series, value] = /^([a-z_]+(?:\{(?:[a-z_]+="[^"\\]*",?)+\})?) (\S+)$/.exec(line) ?? [];
    if (series === undefined || values.has(series)) throw new Error(`not a new sample: ${line}`);
    values.set(series, Number(value));
  }
  return values;
}

/** Returns the values of one metric by their labels, without those that are 0. */
export function samplesOf(values: Scrape, name: string): Record<string, number> {
  const found = [...values].filter(([series, value]) => value !== 0 && series.split("{", 1)[0] === name);
  return Object.fromEntries(found.map(([series, value]) => [series.slice(name.length), value]));
}

/** Returns how much each series of one metric has grown, without those that have not. */
export function growthOf(before: Scrape, after: Scrape, name: string): Record<string, number> {
  const grown = new Map([...after].map(([series, value]) => [series, value - (before.get(series) ?? 0)]));
  return samplesOf(grown, name);
}
