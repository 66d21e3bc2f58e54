import { describe, expect, test } from "vitest";
import { convertBytes } from "../../src/data/convert/convert-bytes.ts";
import { streamReport } from "../../src/usage/report.ts";
import type { UsageRow } from "../../src/usage/store.ts";
import { startTestApp } from "../support/app.ts";
import { noLibreOffice, sheetsOf } from "../support/libreoffice.ts";
import { makeUsage } from "../support/usage.ts";

describe.skipIf(noLibreOffice !== "")(`in LibreOffice ${noLibreOffice}`, { timeout: 120_000 }, () => {
  test("a text is never a formula", async () => {
    const texts = ["=1+1", "+1+1", "-1+1", "@SUM(1)", '=HYPERLINK("http://example.com")'];
    const json = Buffer.from(JSON.stringify(texts.map((text) => ({ text }))));
    const sheets = await sheetsOf(await bytesOf(convertBytes(json, "json")));
    expect(sheets["data"]?.slice(1).map(([, text]) => text?.replaceAll(/^"|"$/g, "").replaceAll('""', '"'))).toEqual(
      texts,
    );
  });

  test("the totals of a report equal those that LibreOffice calculates again", async () => {
    const app = await startTestApp();
    const { company, people } = await makeUsage(app);
    const { carl = "", anna = "", bert = "" } = people;
    const { company_key: otherCompany } = await app
      .database("user_account")
      .where({ username: carl })
      .first("company_key");
    const response = await fetch(`${app.url}/admin/report?from=2026-10-01&to=2026-11-01`, {
      headers: { authorization: `Bearer ${app.admin}` },
    });
    const sheets = await sheetsOf(new Uint8Array(await response.arrayBuffer()));
    await app.stop();
    expect(sheets["Summary"]?.slice(7)).toEqual([
      ["Company", "", "Requests", "Points", "Unique points"],
      ...[
        [company, "", "8", "3015", "916"],
        [otherCompany, "", "3", "300000", "7"],
      ].toSorted(),
      ["Total", "", "11", "303015", "923"],
      ["", "", "", "", ""],
      ["User", "Company", "Requests", "Points", "Unique points"],
      [anna, company, "7", "3010", "911"],
      [bert, company, "1", "5", "5"],
      [carl, otherCompany, "3", "300000", "7"],
      ["Total", "", "11", "303015", "923"],
    ]);
    expect(sheets["By day"]).toEqual([
      ["Date", "Requests", "Points", "Unique points", "ROUTING ROUTE", "UNIVERSAL PLAN"],
      ["2026-10-01", "3", "1010", "910", "10", "1000"],
      ["2026-10-02", "5", "2005", "6", "0", "2005"],
      ["2026-10-31", "3", "300000", "7", "300000", "0"],
    ]);
    expect(sheets["Details"]).toHaveLength(6);
  });

  test("companies whose keys differ by case only, or are the same number, get separate totals", async () => {
    const keys = ["0100", "100", "ACME", "acme"];
    async function* pages(): AsyncIterable<UsageRow[]> {
      const used = { date: "1970-01-01", service: 1, method_group: 3, requests: 1, unique_points: 1 };
      yield keys.map((company_key, user_id) => ({
        ...used,
        company_key,
        user_id,
        username: `user_${user_id}`,
        points: 10 ** user_id,
      }));
    }
    const head = { from: undefined, to: undefined, username: "", requestedBy: "anna", made: new Date() };
    const sheets = await sheetsOf(await bytesOf(streamReport(head, pages())));
    expect(sheets["Summary"]?.slice(8, 13)).toEqual([
      ...keys.map((key, index) => [key, "", "1", String(10 ** index), "1"]),
      ["Total", "", "4", "1111", "4"],
    ]);
  });
});

async function bytesOf(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}
