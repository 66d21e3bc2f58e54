import { CompanyService } from "#gen/tollgate/v1/company_pb.js";
import { type CommandInput, numberOption, optionOf } from "./command.ts";
import { connect } from "./connection.ts";
import { exitCodes } from "./exit-codes.ts";

/** Prints the companies. */
export async function listCompanies(input: CommandInput): Promise<number> {
  const companies = await connect(input, CompanyService);
  const filter = optionOf(input, "filter");
  const limit = numberOption(input, "limit", 1) ?? 1000;
  const rows = [];
  const pages = companies.readCompanies({ limit, ...(filter !== undefined && { filter }) }, { signal: input.signal });
  for await (const page of pages) for (const { key, detail } of page.companies) rows.push({ key, detail });
  input.output.rows(rows);
  return exitCodes.fine;
}

/** Creates a company. */
export async function createCompany(input: CommandInput): Promise<number> {
  const companies = await connect(input, CompanyService);
  const [key = ""] = input.arguments;
  const detail = optionOf(input, "detail");
  await companies.createCompany(
    { company: { key, ...(detail !== undefined && { detail }) } },
    { signal: input.signal },
  );
  input.output.value({ key }, key);
  return exitCodes.fine;
}
