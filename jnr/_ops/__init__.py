"""The ops: public functions, their checks, and the primitives behind them."""
