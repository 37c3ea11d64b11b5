package run

// The plugins that the agent carries. Each one costs size and trust: add what a
// fleet's hosts and applications want, and nothing that pulls in a cluster's
// client (inputs.prometheus does; inputs.http with data_format = "prometheus"
// reads the same pages).
import (
	_ "github.com/influxdata/telegraf/plugins/inputs/cpu"
	_ "github.com/influxdata/telegraf/plugins/inputs/disk"
	_ "github.com/influxdata/telegraf/plugins/inputs/execd"
	_ "github.com/influxdata/telegraf/plugins/inputs/http_response"
	_ "github.com/influxdata/telegraf/plugins/inputs/kernel"
	_ "github.com/influxdata/telegraf/plugins/inputs/mem"
	_ "github.com/influxdata/telegraf/plugins/inputs/net"
	_ "github.com/influxdata/telegraf/plugins/inputs/ping"

	_ "github.com/influxdata/telegraf/plugins/outputs/discard"
	_ "github.com/influxdata/telegraf/plugins/outputs/file"
	_ "github.com/influxdata/telegraf/plugins/outputs/nats"

	_ "github.com/influxdata/telegraf/plugins/parsers/influx"
	_ "github.com/influxdata/telegraf/plugins/serializers/influx"

	_ "github.com/influxdata/telegraf/plugins/processors/filter"
	_ "github.com/influxdata/telegraf/plugins/processors/override"
	_ "github.com/influxdata/telegraf/plugins/processors/rename"

	_ "github.com/foreshift/foreshift/agents/domain"
	_ "github.com/foreshift/foreshift/agents/jetstream"
	_ "github.com/foreshift/foreshift/agents/link"
)
