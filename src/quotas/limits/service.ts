import type { QuotaAdminService } from "#gen/tollgate/v1/quota_pb.js";
import type { Database } from "../../postgres/database.ts";
import { isExclusionViolation } from "../../postgres/errors.ts";
import { conflict, notFound } from "../../shared/errors.ts";
import { type Handlers, requirePresent } from "../../shared/handler.ts";
import { scopeOf } from "../../shared/principal.ts";
import { toPeriods, toRows, toServices } from "./messages.ts";
import { quotaPeriodOf } from "./period.ts";
import {
  deleteQuotaPeriod,
  deleteQuotas,
  findQuotaOwner,
  listQuotas,
  lockQuotaOwner,
  type QuotaOwner,
  replaceQuotas,
} from "./store.ts";

export function quotaAdminHandlers({ database }: { database: Database }): Handlers<typeof QuotaAdminService> {
  return {
    async updateQuotas(request, call) {
      const { username, quota } = request;
      const period = quotaPeriodOf(request);
      await call.change(username, async (transaction) => {
        const owner = found(await lockQuotaOwner(transaction, username), username);
        await replaceQuotas(transaction, owner.id, period, toRows(requirePresent(quota))).catch((error: unknown) => {
          throw isExclusionViolation(error) ? overlap() : error;
        });
        return { answer: undefined, companyKey: owner.company_key };
      });
      return {};
    },

    async readQuotas({ username }, call) {
      const owner = found(await findQuotaOwner(database, scopeOf(call.principal), username), username);
      const rows = await listQuotas(database, owner.id);
      call.recordRead({ username, companyKey: owner.company_key });
      const base = rows.filter(({ from }) => from === null);
      const additional = rows.filter(({ from }) => from !== null);
      return { base: { services: toServices(base) }, additional: toPeriods(additional) };
    },

    async deleteQuotas(request, call) {
      const { username } = request;
      const period = quotaPeriodOf(request);
      await call.change(username, async (transaction) => {
        const owner = found(await lockQuotaOwner(transaction, username), username);
        const removed =
          period === undefined
            ? await deleteQuotas(transaction, owner.id)
            : await deleteQuotaPeriod(transaction, owner.id, period);
        if (period !== undefined && removed === 0) {
          throw notFound("quota of the period", `${period.from}..${period.to}`);
        }
        return { answer: undefined, companyKey: owner.company_key };
      });
      return {};
    },
  };
}

function found(owner: QuotaOwner | undefined, username: string): QuotaOwner {
  if (owner === undefined) throw notFound("user", username);
  return owner;
}

function overlap() {
  return conflict(
    "PERIOD_OVERLAP",
    "the period overlaps another one of the same service and method group: remove that one first",
  );
}
