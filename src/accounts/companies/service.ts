import { CompanyPatchSchema, type CompanyService } from "#gen/tollgate/v1/company_pb.js";
import type { Database } from "../../postgres/database.ts";
import { isForeignKeyViolation, isUniqueViolation } from "../../postgres/errors.ts";
import { streamRows } from "../../postgres/stream.ts";
import { alreadyExists, conflict, notFound } from "../../shared/errors.ts";
import { changedFields } from "../../shared/field-mask.ts";
import { type Handlers, requirePresent } from "../../shared/handler.ts";
import { pageOf } from "../../shared/pagination.ts";
import { scopeOf } from "../../shared/principal.ts";
import {
  type CompanyRow,
  countCompanies,
  countMatchingCompanies,
  deleteCompany,
  findCompany,
  hasCompanyHistory,
  insertCompany,
  streamCompanies,
  updateCompany,
} from "./store.ts";

const sortable = { key: "key", detail: "detail" };

export function companyHandlers({ database }: { database: Database }): Handlers<typeof CompanyService> {
  return {
    async createCompany({ company }, call) {
      const { key, detail = null } = requirePresent(company);
      await call.change(key, async (transaction) => {
        await insertCompany(transaction, { key, detail }).catch((error: unknown) => {
          throw isUniqueViolation(error) ? alreadyExists("company", key) : error;
        });
        // The audit log and usage of the deleted company are stored under the key: the new company would read them.
        if (await hasCompanyHistory(transaction, key)) {
          throw conflict(
            "KEY_HAS_HISTORY",
            `the key belonged to a deleted company whose history is kept; choose another key: ${key}`,
          );
        }
        return { answer: undefined, companyKey: key };
      });
      return { company: toMessage({ key, detail }) };
    },

    async updateCompany({ company }, call) {
      const { key, detail = null } = requirePresent(company);
      return call.change(key, async (transaction) => {
        const updated = await updateCompany(transaction, scopeOf(call.principal), { key, detail });
        if (updated === undefined) throw notFound("company", key);
        return { answer: { company: toMessage(updated) }, companyKey: key };
      });
    },

    async patchCompany({ key, company, updateMask }, call) {
      const patch = requirePresent(company);
      const fields = changedFields(CompanyPatchSchema, patch, updateMask);
      return call.change(key, async (transaction) => {
        const scope = scopeOf(call.principal);
        const changed = fields.includes("detail")
          ? await updateCompany(transaction, scope, { key, detail: patch.detail ?? null })
          : await findCompany(transaction, scope, key);
        if (changed === undefined) throw notFound("company", key);
        return { answer: { company: toMessage(changed) }, companyKey: key };
      });
    },

    async *readCompanies(request, call) {
      const scope = scopeOf(call.principal);
      const { filter } = request;
      const page = pageOf(request, sortable);
      const overall = await countCompanies(database, scope);
      const matching = filter === undefined ? overall : await countMatchingCompanies(database, scope, filter);
      yield { statistics: { overall: { total: overall }, filter: { total: matching } } };
      const rows = streamCompanies(database, scope, filter, page);
      for await (const companies of streamRows<CompanyRow>(database, rows, { ...page, signal: call.signal })) {
        yield { companies: companies.map((company) => toMessage(company)) };
      }
    },

    async readCompany({ key }, call) {
      const company = await findCompany(database, scopeOf(call.principal), key);
      if (company === undefined) throw notFound("company", key);
      return { company: toMessage(company) };
    },

    async deleteCompany({ key }, call) {
      await call.change(key, async (transaction) => {
        const removed = await deleteCompany(transaction, key).catch((error: unknown) => {
          throw isForeignKeyViolation(error)
            ? conflict(
                "COMPANY_HAS_USERS",
                `the company has users; remove them or move them to another company first: ${key}`,
              )
            : error;
        });
        if (removed === 0) throw notFound("company", key);
        return { answer: undefined, companyKey: key };
      });
      return {};
    },
  };
}

function toMessage({ key, detail }: CompanyRow) {
  return detail === null ? { key } : { key, detail };
}
