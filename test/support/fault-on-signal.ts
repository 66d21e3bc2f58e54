// Imported before the server: SIGUSR2 raises an error that the server does not handle.
process.on("SIGUSR2", () => {
  if (process.env["FAULT"] === "exception") throw new Error("planted exception");
  void Promise.reject(new Error("planted rejection"));
});
