import { once } from "node:events";

/** Starts the server in this process. It exits with the codes of docs/operations.md. */
export async function serve(): Promise<number> {
  await import("../main.ts");
  await once(process, "exit");
  return 0;
}
