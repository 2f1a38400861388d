// Everything is found relative to the page, so it works under any prefix.
const place = document.getElementById("swagger-ui");
if (typeof SwaggerUIBundle === "undefined") {
  document.getElementById("failed").hidden = false;
} else {
  window.ui = SwaggerUIBundle({
    url: place.dataset.openapi,
    domNode: place,
    deepLinking: true,
    persistAuthorization: true,
    validatorUrl: null,
  });
}
