module github.com/ondat/telemetry/bindings/go

go 1.24
