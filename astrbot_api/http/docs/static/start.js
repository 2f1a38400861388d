// Swagger UI resolves the whole document for each operation that is opened, which takes more
// than a second. Our document has only internal references, so only that operation is resolved.
const find = (document, keys) => keys.reduce((node, key) => node?.[key], document);

const resolve = (document, node, inside = []) => {
  if (Array.isArray(node)) return node.map((item) => resolve(document, item, inside));
  if (node === null || typeof node !== "object") return node;
  const { $ref: reference, ...own } = node;
  if (typeof reference === "string" && reference.startsWith("#/")) {
    if (inside.includes(reference)) return node;  // a recursive schema
    const keys = reference.slice(2).split("/")
      .map((key) => decodeURIComponent(key).replaceAll("~1", "/").replaceAll("~0", "~"));
    const target = find(document, keys);
    if (target === undefined) return node;
    return { ...resolve(document, target, [...inside, reference]), $$ref: reference, ...own };
  }
  return Object.fromEntries(
    Object.entries(node).map(([key, value]) => [key, resolve(document, value, inside)]),
  );
};

// Each operation inherits the parameters of its path.
const findWhole = (document, path) => {
  const node = find(document, path) ?? null;
  const shared = path[0] === "paths" && path.length === 3 ? find(document, path.slice(0, 2)) : {};
  if (node === null || !shared?.parameters) return node;
  return { ...node, parameters: [...shared.parameters, ...(node.parameters ?? [])] };
};

const resolveAlone = () => ({
  fn: {
    resolveSubtree: async (document, path) => ({
      spec: resolve(document, findWhole(document, path)),
      errors: [],
    }),
  },
});

// Dark like the system, with Swagger UI's own style.
const dark = matchMedia("(prefers-color-scheme: dark)");
const dim = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", dim);
dim();

// All URLs are relative to the page, so it works under any path prefix.
const place = document.getElementById("swagger-ui");
if (typeof SwaggerUIBundle === "undefined") {
  document.getElementById("failed").hidden = false;
} else {
  window.ui = SwaggerUIBundle({
    url: place.dataset.openapi,
    domNode: place,
    deepLinking: true,
    filter: true,
    persistAuthorization: true,
    validatorUrl: null,
    plugins: [resolveAlone],
  });
}
