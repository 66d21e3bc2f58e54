const minCharacters = 32;
const minDifferent = 10;

/** Common placeholders in configuration files: letters and digits only, lower case. */
const placeholders = [
  "changeme",
  "changethis",
  "default",
  "dummy",
  "example",
  "insertyour",
  "mysecret",
  "notasecret",
  "password",
  "placeholder",
  "qwerty",
  "replaceme",
  "replacethis",
  "replacewith",
  "supersecret",
  "tobereplaced",
  "topsecret",
  "yourkey",
  "yoursecret",
  "yourtoken",
];

/**
 * Returns the rule that a secret breaks, without repeating the secret. Undefined when it breaks none. Finds mistakes, not
 * missing randomness: a short text, few different characters, a repeated text, a run such as abcdef, a placeholder.
 */
export function findWeakness(secret: string): string | undefined {
  if (secret.length < minCharacters) return `must have ${minCharacters} characters or more`;
  if (new Set(secret).size < minDifferent) return `must have ${minDifferent} different characters or more`;
  if (isRepetition(secret)) return "must not repeat a shorter text";
  if (isRun(secret)) return "must not follow the order of the alphabet or of digits";
  const plain = secret.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
  if (placeholders.some((text) => plain.includes(text)))
    return "must not be a placeholder, such as changeme or your-secret";
  return undefined;
}

/** Returns whether the secret repeats a text of at most half its length. The last repetition may be cut off. */
function isRepetition(secret: string): boolean {
  const lengths = Array.from({ length: Math.floor(secret.length / 2) }, (_none, index) => index + 1);
  return lengths.some((length) => secret.startsWith(secret.slice(length)) && secret.length >= 2 * length);
}

/** Returns whether most characters equal or are next to the character before them. */
function isRun(secret: string): boolean {
  let following = 0;
  for (let index = 1; index < secret.length; index += 1) {
    if (Math.abs(secret.charCodeAt(index) - secret.charCodeAt(index - 1)) <= 1) following += 1;
  }
  return following > secret.length / 2;
}
