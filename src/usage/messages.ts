import type { MessageInitShape } from "@bufbuild/protobuf";
import type { UserStatisticsSchema } from "#gen/tollgate/v1/statistics_pb.js";
import type { UsageRow } from "./store.ts";

/** Yields the rows of complete users. The last user of a page may continue on the next page. */
export async function* groupByUser(pages: AsyncIterable<readonly UsageRow[]>): AsyncGenerator<UsageRow[][]> {
  let open: UsageRow[] = [];
  for await (const page of pages) {
    const users = groups([...open, ...page], ({ user_id }) => user_id);
    open = users.pop() ?? [];
    if (users.length > 0) yield users;
  }
  if (open.length > 0) yield [open];
}

/** @param rows of one user, ordered by date, service and method group */
export function toUserStatistics(rows: readonly UsageRow[]) {
  return {
    username: rows[0]?.username ?? "",
    dates: groups(rows, ({ date }) => date).map((ofDay) => ({
      date: ofDay[0]?.date ?? "",
      services: groups(ofDay, ({ service }) => service).map((ofService) => ({
        service: ofService[0]?.service ?? 0,
        // A user who changed company on this day has a row for each company.
        methods: groups(ofService, ({ method_group }) => method_group).map((ofMethod) => ({
          methodGroup: ofMethod[0]?.method_group ?? 0,
          pointsPerDay: BigInt(ofMethod.reduce((sum, { points }) => sum + points, 0)),
          uniquePointsPerDay: BigInt(ofMethod.reduce((sum, { unique_points }) => sum + unique_points, 0)),
        })),
      })),
    })),
  } satisfies MessageInitShape<typeof UserStatisticsSchema>;
}

/** Groups adjacent rows that have the same key. */
function groups<Row>(rows: readonly Row[], keyOf: (row: Row) => unknown): Row[][] {
  const found: Row[][] = [];
  let key: unknown;
  for (const row of rows) {
    if (found.length === 0 || keyOf(row) !== key) found.push([]);
    key = keyOf(row);
    found.at(-1)?.push(row);
  }
  return found;
}
