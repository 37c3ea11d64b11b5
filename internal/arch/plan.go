package arch

// roomOf finds the plan's entry for a package: the entry of the package itself or
// of the nearest folder above it that covers what lies below.
func roomOf(pkg string) (room, bool) {
	best, found := "", false
	for name := range plan {
		if under(pkg, name) && len(name) >= len(best) {
			best, found = name, true
		}
	}
	return plan[best], found
}

// plan is the house. An entry covers the folders below it that have none of
// their own.
var plan = map[string]room{
	"schemas": {may: []string{"schemas"}},
	"streams": {may: []string{"schemas", "streams"}},

	// Deciders: they see their own service's deciders and schemas, nothing else.
	"forecaster/window":   {may: []string{"schemas"}, clean: true},
	"forecaster/model":    {may: []string{"schemas", "forecaster/window"}, clean: true},
	"forecaster/calendar": {may: []string{"schemas", "forecaster/model"}, clean: true},
	"forecaster/lstm":     {may: []string{"schemas", "forecaster/window", "forecaster/model"}, clean: true},
	"forecaster/ensemble": {may: []string{"schemas", "forecaster/window", "forecaster/model", "forecaster/lstm"}, clean: true},
	"forecaster/effect":   {may: []string{"schemas", "forecaster/window"}, clean: true},
	"forecaster/pressure": {may: []string{"schemas", "forecaster/window", "forecaster/model"}, clean: true},
	"placer/fleet":        {may: []string{"schemas", "placer/policy", "placer/trust"}, clean: true},
	"placer/policy":       {may: []string{"schemas", "placer/policy"}, clean: true},
	"placer/search":       {may: []string{"schemas"}, clean: true},
	"placer/trust":        {may: []string{"schemas"}, clean: true},
	"placer/plan":         {may: []string{"schemas", "placer/fleet", "placer/policy", "placer/search", "placer/trust"}, clean: true},
	"actuator/migration":  {may: []string{"schemas"}, clean: true},
	"actuator/libvirt":    {may: []string{"schemas", "actuator/migration"}},

	// Services: a pure heart in the shared shell; I/O only in service.go.
	"forecaster": {may: []string{"schemas", "streams", "forecaster"}, clean: true, shell: []string{"service.go", "keeper.go", "held.go", "load.go"}},
	"placer":     {may: []string{"schemas", "streams", "placer"}, clean: true, shell: []string{"service.go"}},
	"actuator":   {may: []string{"schemas", "streams", "actuator"}},
	"agents":     {may: []string{"schemas", "streams", "agents"}},
	// The placer's fold says what holds of all that operators said, the forecaster's what
	// the calendar means; nobody says it twice.
	"console": {may: []string{"schemas", "streams", "console", "placer/fleet", "placer/policy", "forecaster/calendar", "internal/service", "internal/chart", "internal/explain"}},

	// Tunnels between sites: how a link is shared out is decided purely.
	"actuator/tunnel/share": {may: []string{"schemas"}, clean: true},
	"actuator/tunnel/plane": {may: []string{"schemas"}},
	"actuator/tunnel":       {may: []string{"schemas", "streams", "actuator/tunnel"}},
	"internal/lab/twosites": {may: []string{"schemas", "streams", "actuator", "internal/lab"}},

	"forecaster/lstm/train": {may: []string{"forecaster/lstm"}}, // a command

	"internal/config":     {},
	"internal/docs":       {},
	"deploy":              {may: []string{"*"}},
	"internal/service":    {may: []string{"schemas"}},
	"internal/arch":       {},
	"internal/explain":    {may: []string{"schemas"}, clean: true},
	"internal/chart":      {},
	"internal/history":    {may: []string{"schemas"}},
	"internal/replay":     {may: []string{"schemas", "forecaster", "placer", "internal/chart"}},
	"internal/tune":       {may: []string{"schemas", "streams", "forecaster", "placer", "internal/replay"}},
	"internal/cluster":    {may: []string{"schemas", "streams", "actuator/migration", "placer"}, clean: true},
	"internal/sim":        {may: []string{"schemas", "internal/sim"}},
	"internal/lab":        {may: []string{"schemas", "actuator/libvirt", "actuator/migration", "internal/lab"}},
	"internal/lab/matrix": {may: []string{"schemas", "streams", "actuator", "internal/lab", "placer/plan", "placer/policy/learning"}},
	"internal/stack":      {may: []string{"*"}},
	"benchmarks":          {may: []string{"*"}},
	"cmd":                 {may: []string{"*"}},
}
