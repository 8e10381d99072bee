package telemetry

import (
	"bytes"
	"encoding/json"
	"iter"
	"sync"
)

// ReportWriter receives the daily report record by record, inside Config.OnReport, for reports of any size. A refused
// record changes nothing: the error names the field, and the report continues without the record. After the callback has
// returned every method returns ErrInvalidState.
type ReportWriter struct {
	mu     sync.Mutex
	native *nativeReport // nil after the callback
	buffer bytes.Buffer
	encode *json.Encoder
}

func newReportWriter(native *nativeReport) *ReportWriter {
	w := &ReportWriter{native: native}
	w.encode = json.NewEncoder(&w.buffer)
	w.encode.SetEscapeHTML(false)
	return w
}

// IsPreview reports whether an administrator only asks what would be sent. The report of the day is then still to come:
// do not reset counters.
// C: ondat_telemetry_report_is_preview.
func (w *ReportWriter) IsPreview() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.native != nil && w.native.isPreview()
}

// SetCluster sets the cluster fields. Call it once, before the first 1024 records are added.
// C: ondat_telemetry_report_set_cluster.
func (w *ReportWriter) SetCluster(cluster *Cluster) error {
	return w.add("SetCluster", cluster, (*nativeReport).setCluster)
}

// AddNode adds a node.
// C: ondat_telemetry_report_add_node.
func (w *ReportWriter) AddNode(node *Node) error {
	return w.add("AddNode", node, (*nativeReport).addNode)
}

// AddVolume adds a volume.
// C: ondat_telemetry_report_add_volume.
func (w *ReportWriter) AddVolume(volume *Volume) error {
	return w.add("AddVolume", volume, (*nativeReport).addVolume)
}

// AddNodes adds nodes until there are no more, one is refused, or the iterator yields an error, and returns the error.
// The iterator may yield the same node again with other content.
func (w *ReportWriter) AddNodes(nodes iter.Seq2[*Node, error]) error {
	return addAll(nodes, w.AddNode)
}

// AddVolumes adds volumes as AddNodes adds nodes.
func (w *ReportWriter) AddVolumes(volumes iter.Seq2[*Volume, error]) error {
	return addAll(volumes, w.AddVolume)
}

func addAll[T any](records iter.Seq2[*T, error], add func(*T) error) error {
	for record, err := range records {
		if err == nil {
			err = add(record)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *ReportWriter) add(op string, record any, give func(*nativeReport, string, []byte) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.native == nil {
		return &Error{Op: op, Code: ErrInvalidState, Detail: "the report callback has returned"}
	}
	w.buffer.Reset()
	if err := w.encode.Encode(record); err != nil {
		return &Error{Op: op, Code: ErrInvalidReport, Detail: err.Error(), cause: err}
	}
	return give(w.native, op, w.buffer.Bytes())
}

// end makes the writer unusable: the native report belongs to the library again.
func (w *ReportWriter) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.native = nil
}
