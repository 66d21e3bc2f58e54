import type { StatisticsService } from "#gen/tollgate/v1/statistics_pb.js";
import type { Database } from "../postgres/database.ts";
import type { Handlers } from "../shared/handler.ts";
import { scopeOf } from "../shared/principal.ts";
import { xlsxType } from "../xlsx/workbook.ts";
import { groupByUser, toUserStatistics } from "./messages.ts";
import { statisticsPeriodOf } from "./period.ts";
import { streamReport } from "./report.ts";
import { streamUsage } from "./store.ts";

export interface StatisticsOptions {
  readonly database: Database;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

export function statisticsHandlers({ database, now }: StatisticsOptions): Handlers<typeof StatisticsService> {
  return {
    async *readStatistics(request, call) {
      const period = statisticsPeriodOf(request, call.principal, now());
      const { username } = request;
      call.recordRead({ username });
      const selection = { scope: scopeOf(call.principal), username, period };
      const pages = streamUsage(database, selection, { nowMs: now(), signal: call.signal });
      for await (const users of groupByUser(pages)) yield { users: users.map(toUserStatistics) };
    },

    async *readReport(request, call) {
      const period = statisticsPeriodOf(request, call.principal, now());
      const { principal, signal } = call;
      const { username } = request;
      const made = new Date(now());
      call.recordRead({ username });
      const selection = { scope: scopeOf(principal), username, period };
      const pages = streamUsage(database, selection, { nowMs: now(), signal });
      const requestedBy = `${principal.companyKey} / ${principal.username}`;
      const file = streamReport({ ...period, username, requestedBy, made }, pages);
      const name = ["usage", period.from, period.to, username].filter(Boolean).join("_");
      call.responseHeader.set("content-disposition", `attachment; filename="${name}.xlsx"`);
      for await (const data of file) yield { file: { contentType: xlsxType, data } };
    },
  };
}
