# Forecasts every series of a CSV file with one method of R and times each by itself.
#
#   Rscript peers.R METHOD HORIZON SEASON SECONDS IN.csv OUT.csv
#
# In: series,y in order of time, nothing missing. Out: lines "T,series,cpu_s,ok|fail,reason"
# and "Q,series,step,q.1,...,q.9". A series that takes more CPU seconds than allowed, or
# at which the method gives up, has no lines Q.
arg <- commandArgs(trailingOnly = TRUE)
method <- arg[1]
horizon <- as.integer(arg[2])
season <- as.integer(arg[3])
seconds <- as.numeric(arg[4])
tenths <- seq(0.1, 0.9, by = 0.1)
bands <- c(20, 40, 60, 80)

# of a forecast object: a row a step, its nine quantiles
nine <- function(f) {
  low <- as.matrix(f$lower)
  top <- as.matrix(f$upper)
  unname(cbind(low[, 4:1, drop = FALSE], as.numeric(f$mean), top))
}
seasonal <- function(y) ts(y, frequency = season)

methods <- list(
  "auto.arima" = function(y) nine(forecast(auto.arima(ts(y)), h = horizon, level = bands)),
  "stlf+arima" = function(y) nine(stlf(seasonal(y), h = horizon, level = bands, method = "arima")),
  "stlf+ets" = function(y) nine(stlf(seasonal(y), h = horizon, level = bands, method = "ets")),
  "thetaf" = function(y) nine(thetaf(seasonal(y), h = horizon, level = bands)),
  "tbats" = function(y) nine(forecast(tbats(seasonal(y), use.parallel = FALSE), h = horizon, level = bands)),
  "prophet" = function(y) {
    begin <- as.POSIXct("2024-01-01", tz = "GMT")
    stamp <- function(k) begin + 86400 / season * k
    m <- prophet(data.frame(ds = stamp(seq_along(y) - 1), y = y),
      yearly.seasonality = FALSE, weekly.seasonality = length(y) >= 14 * season,
      daily.seasonality = TRUE, uncertainty.samples = 500)
    paths <- predictive_samples(m, data.frame(ds = stamp(length(y) - 1 + seq_len(horizon))))$yhat
    unname(t(apply(paths, 1, quantile, probs = tenths)))
  })
run <- methods[[method]]
if (is.null(run)) stop("no method ", method)
suppressPackageStartupMessages(library(forecast))
if (method == "prophet") suppressPackageStartupMessages(library(prophet))

used <- function() sum(proc.time()[c(1, 2, 4, 5)], na.rm = TRUE) # of children too
input <- read.csv(arg[5], colClasses = c("character", "numeric"))
out <- file(arg[6], "w")
for (id in unique(input$series)) {
  y <- input$y[input$series == id]
  set.seed(1)
  begun <- used()
  q <- tryCatch({
    setTimeLimit(cpu = seconds, transient = TRUE)
    suppressMessages(suppressWarnings(run(y)))
  }, error = function(e) gsub("[,\r\n\"]", " ", conditionMessage(e)))
  setTimeLimit()
  took <- used() - begun
  if (is.matrix(q) && all(dim(q) == c(horizon, 9)) && all(is.finite(q))) {
    cat(sprintf("T,%s,%.4f,ok,\n", id, took), file = out)
    cat(paste0("Q,", id, ",", seq_len(horizon), ",", apply(signif(q, 7), 1, paste, collapse = ","), "\n"), sep = "", file = out)
  } else {
    cat(sprintf("T,%s,%.4f,fail,%s\n", id, took, if (is.character(q)) substr(q, 1, 200) else "not finite"), file = out)
  }
}
close(out)
