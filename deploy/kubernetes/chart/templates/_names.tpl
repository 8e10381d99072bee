{{- define "ondat-telemetry.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "ondat-telemetry.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ondat-telemetry.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
envFrom:
  - configMapRef: {name: {{ .Release.Name }}}
env:
  - name: ONDAT_TELEMETRY_STATE_DIR
    value: /var/lib/ondat-telemetry
  - name: ONDAT_TELEMETRY_NODE_ID
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
  {{- with .Values.identity.secretName }}
  - name: ONDAT_TELEMETRY_IDENTITY_KEY
    valueFrom: {secretKeyRef: {name: {{ . }}, key: identity-key}}
  {{- end }}
securityContext:
  runAsUser: {{ .Values.runAsUser }}
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end }}
