{{/*
What the operator may do wherever it serves: exactly what it does, verb by verb. tests/e2e/test_chart.py compares the
kinds with those that the operator builds.
*/}}
{{- define "polyglot-operator.rules" -}}
- apiGroups: [polyglot.dev]
  resources: [polyglotservices]
  verbs: [list, watch]
- apiGroups: [polyglot.dev]
  resources: [polyglotservices/status]
  verbs: [patch]
# Children: found by watch, asked for by name before the first apply, and applied. Deleted by the garbage collector alone.
- apiGroups: [""]
  resources: [configmaps, serviceaccounts, services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
# Children that a spec may cease to ask for: pruned as well.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.istio.io]
  resources: [destinationrules, virtualservices]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [security.istio.io]
  resources: [authorizationpolicies, peerauthentications]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [telemetry.istio.io]
  resources: [telemetries]
  verbs: [get, list, watch, create, patch, delete]
# What runs, and why it does not.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, watch]
# Whether a model's volume exists.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
