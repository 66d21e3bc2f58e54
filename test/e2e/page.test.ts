import { execFile, spawnSync } from "node:child_process";
import { promisify } from "node:util";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";

const program = "/usr/bin/chromium";
const noBrowser = spawnSync(program, ["--version"]).error === undefined ? "" : "skipped: install chromium";
const quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const offline = ["--disable-component-update", "--disable-sync"];

describe.skipIf(noBrowser !== "")(`the reference page in a browser ${noBrowser}`, () => {
  let app: TestApp;
  let browser: Browser;
  let page: Page;
  const requested: string[] = [];
  const problems: string[] = [];
  let lease = "";
  beforeAll(async () => {
    app = await startTestApp();
    browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox", ...quiet, ...offline] });
    const context = await browser.newContext({ permissions: ["clipboard-read", "clipboard-write"] });
    page = await context.newPage();
    page.on("request", (request) => requested.push(request.url()));
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    page.on("pageerror", (error) => problems.push(error.message));
    await page.goto(`${app.url}/admin/file/admin_en.html`);
  });
  afterAll(async () => {
    await browser.close();
    await app.stop();
  });

  test("loads no other resource, and runs without an error", () => {
    expect(requested.filter((url) => !url.endsWith("/favicon.ico"))).toEqual([`${app.url}/admin/file/admin_en.html`]);
    expect(problems.filter((text) => !text.includes("404"))).toEqual([]);
  });

  test("the search shows the operations that contain all words", async () => {
    await page.fill("#search", "max_concurrent_execution quotas");
    expect(await page.isVisible("#update_quotas")).toBe(true);
    expect(await page.isVisible("#create_company")).toBe(false);
    expect(await page.isVisible('nav a[href="#create_company"]')).toBe(false);
    await page.fill("#search", "");
    expect(await page.isVisible("#create_company")).toBe(true);
  });

  test("a button copies the sample with the address of the page", async () => {
    await page.click("#read_users pre.curl button");
    const copied = await page.evaluate("navigator.clipboard.readText()");
    expect(copied).toBe(`curl ${app.url}/admin/users \\\n  -H "Authorization: Bearer $TOKEN"`);
  });

  // Each operation uses the resources that the earlier ones created. The last one removes them.
  test.each([
    [
      "curl",
      "bash",
      ["-c"],
      ["create_company", "create_user", "update_quotas", "record_actions", "acquire_quota", "renew_lease"],
    ],
    [
      "typescript",
      process.execPath,
      ["--input-type=module", "-e"],
      ["update_company", "update_user", "read_quotas", "settle_lease"],
    ],
    ["python", "python3", ["-c"], ["read_user", "settle_lease", "update_quotas", "delete_quotas", "delete_user"]],
  ])(
    "the samples in %s run as they are pasted",
    async (language, command, options, operations) => {
      await page.check(`#in-${language}`);
      for (const operation of operations) {
        const sample = page.locator(`#${operation} pre.${language}`);
        expect(await sample.isVisible()).toBe(true);
        const code = await sample.evaluate((element) => element.firstChild?.textContent ?? "");
        const checked =
          language === "curl" ? code.replace(/^curl /, "curl -sS --fail-with-body -w ' %{http_code}' ") : code;
        const env = { PATH: process.env["PATH"], TOKEN: app.admin, LEASE_ID: lease };
        const { stdout } = await promisify(execFile)(command, [...options, checked], { env });
        expect([operation, stdout]).toEqual([operation, expect.stringMatching(/\b20[014]\b/)]);
        lease = /"lease_id":"([^"]+)"/.exec(stdout)?.[1] ?? lease;
      }
      await page.check("#in-curl");
    },
    60_000,
  );

  test.each(["light", "dark"] as const)(
    "shows a phone a collapsed table of contents and no horizontal scrolling, %s",
    async (colorScheme) => {
      const phone = await browser.newPage({ viewport: { width: 390, height: 844 }, colorScheme });
      await phone.goto(`${app.url}/admin/file/admin_en.html`);
      expect(await phone.isVisible('nav a[href="#create_company"]')).toBe(false);
      await phone.click("#menu > summary");
      await phone.click('nav a[href="#create_company"]');
      expect(await phone.isVisible('nav a[href="#create_company"]')).toBe(false);
      expect(await phone.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(390);
      await phone.close();
    },
  );
});
