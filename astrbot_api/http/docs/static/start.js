// Everything is found relative to the page, so it works under any prefix.
const language = document.documentElement.lang;
window.ui = SwaggerUIBundle({
  url: "openapi.json?lang=" + encodeURIComponent(language),
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: true,
  validatorUrl: null,
});
