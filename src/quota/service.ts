import type { QuotaAdminService } from "#gen/tollgate/v1/quota_pb.js";
import { type Handlers, present } from "../core/call.ts";
import { conflict, notFound } from "../core/errors.ts";
import { scopeOf } from "../core/principal.ts";
import type { Database } from "../storage/database.ts";
import { isExclusionViolation } from "../storage/errors.ts";
import { toPeriods, toRows, toServices } from "./messages.ts";
import { periodOf } from "./period.ts";
import { findUserId, list, lockUser, removeAll, removePeriod, replace } from "./store.ts";

export function quotaAdminHandlers({ database }: { database: Database }): Handlers<typeof QuotaAdminService> {
  return {
    async updateQuotas(request, call) {
      const { username, quota } = request;
      const period = periodOf(request);
      await call.change(username, async (transaction) => {
        const userId = found(await lockUser(transaction, username), username);
        await replace(transaction, userId, period, toRows(present(quota))).catch((error: unknown) => {
          throw isExclusionViolation(error) ? overlap() : error;
        });
      });
      return {};
    },

    async readQuotas({ username }, call) {
      const userId = found(await findUserId(database, scopeOf(call.principal), username), username);
      const rows = await list(database, userId);
      const base = rows.filter(({ from }) => from === null);
      const additional = rows.filter(({ from }) => from !== null);
      return { base: { services: toServices(base) }, additional: toPeriods(additional) };
    },

    async deleteQuotas(request, call) {
      const { username } = request;
      const period = periodOf(request);
      await call.change(username, async (transaction) => {
        const userId = found(await lockUser(transaction, username), username);
        if (period === undefined) return removeAll(transaction, userId);
        const removed = await removePeriod(transaction, userId, period);
        if (removed === 0) throw notFound("quota of the period", `${period.from}..${period.to}`);
      });
      return {};
    },
  };
}

function found(userId: number | undefined, username: string): number {
  if (userId === undefined) throw notFound("user", username);
  return userId;
}

function overlap() {
  return conflict(
    "PERIOD_OVERLAP",
    "the period overlaps another one of the same service and method group: remove that one first",
  );
}
