// Imported before the server: SIGUSR2 makes the error that no code of ours handles.
process.on("SIGUSR2", () => {
  if (process.env["FAULT"] === "exception") throw new Error("planted exception");
  void Promise.reject(new Error("planted rejection"));
});
