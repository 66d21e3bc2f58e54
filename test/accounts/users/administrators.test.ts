import { expect, test } from "vitest";
import { startTestApp } from "../../support/app.ts";

test("one administrator stays enabled when two disable each other at once", async () => {
  const app = await startTestApp();
  const second = await app.user({ roles: ["ADMIN"], company_key: "administration" });
  const disable = (username: string, token: string) =>
    app.http("PUT", "/admin/users", {
      token,
      body: { username, company_key: "administration", roles: ["ADMIN"], enabled: false },
    });
  const token = await app.token(second);
  const answers = await Promise.all([disable("admin", token), disable(second, app.admin)]);
  const left = await app.database("user_account").where({ enabled: true }).count({ users: "*" });
  await app.stop();
  expect(left).toEqual([{ users: 1 }]);
  expect(answers.map(({ status }) => status).toSorted()[0]).toBe(200);
});
