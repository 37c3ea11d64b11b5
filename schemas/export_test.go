package schemas

// The inner parts that have tests of their own.
var (
	ToHalf   = toHalf
	FromHalf = fromHalf
	RowScale = rowScale
)
