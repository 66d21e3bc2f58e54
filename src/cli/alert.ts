import { AlertService, type AlertThresholds, AlertThresholds_Source as Source } from "#gen/tollgate/v1/alert_pb.js";
import { type CommandInput, optionOf, UsageError } from "./command.ts";
import { connect } from "./connection.ts";
import { exitCodes } from "./exit-codes.ts";

/** The owner of thresholds. Exactly one of --user and --company names it. */
type Owner = { readonly username: string } | { readonly key: string };

/** Prints the thresholds that apply to a user or a company, and where they are set. */
export async function showAlert(input: CommandInput): Promise<number> {
  const owner = ownerOf(input);
  return printThresholds(input, await readThresholds(input, owner));
}

/** Sets the thresholds of a user or a company, turns its alerts off, or removes its thresholds. */
export async function setAlert(input: CommandInput): Promise<number> {
  const owner = ownerOf(input);
  const [list = ""] = input.arguments;
  const alerts = await connect(input, AlertService);
  const options = { signal: input.signal };
  if (list === "default") {
    if ("key" in owner) await alerts.deleteCompanyAlertThresholds(owner, options);
    else await alerts.deleteUserAlertThresholds(owner, options);
    return printThresholds(input, await readThresholds(input, owner));
  }
  const change = list === "off" ? { off: true } : { thresholds: list.split(",") };
  const { alertThresholds } =
    "key" in owner
      ? await alerts.updateCompanyAlertThresholds({ ...owner, ...change }, options)
      : await alerts.updateUserAlertThresholds({ ...owner, ...change }, options);
  return printThresholds(input, alertThresholds);
}

async function readThresholds(input: CommandInput, owner: Owner): Promise<AlertThresholds | undefined> {
  const alerts = await connect(input, AlertService);
  const options = { signal: input.signal };
  const { alertThresholds } =
    "key" in owner
      ? await alerts.readCompanyAlertThresholds(owner, options)
      : await alerts.readUserAlertThresholds(owner, options);
  return alertThresholds;
}

function ownerOf(input: CommandInput): Owner {
  const [username, key] = [optionOf(input, "user"), optionOf(input, "company")];
  if (username !== undefined && key === undefined) return { username };
  if (key !== undefined && username === undefined) return { key };
  throw new UsageError("one of --user and --company must be set");
}

function printThresholds(input: CommandInput, found: AlertThresholds | undefined): number {
  const { thresholds = [], source = Source.UNSPECIFIED } = found ?? {};
  const from = Source[source].toLowerCase();
  input.output.value({ thresholds, source: from }, `${thresholds.join(",") || "off"} (${from})`);
  return exitCodes.fine;
}
