"""The identity of the custom resource and of the operator as a writer of fields."""

GROUP = "polyglot.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "PolyglotService"
PLURAL = "polyglotservices"
SINGULAR = "polyglotservice"
SHORT_NAME = "pgs"
CATEGORY = "polyglot"
CRD_NAME = f"{PLURAL}.{GROUP}"

FIELD_MANAGER = "polyglot-operator"
# Holds spec.replicas while ownership passes to an autoscaler, so that the count never drops to one.
HANDOVER_FIELD_MANAGER = "polyglot-handover"
