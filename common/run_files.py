"""What lies in a run's folder, by name."""

SETTINGS = "settings.toml"  # what `ostrakon up` was asked for
LEDGER = "ledger.sqlite"
MODELS = "models"  # the last committed models, each with the running sum
LONGEST_LEDGER = 500  # bytes of the path of a ledger: SQLite takes no more than 512, with what it adds to it
METRICS = "metrics.jsonl"  # what the server measures of its rounds
EVALUATIONS = "evaluations.jsonl"  # what the evaluator measures of the models
CONSTANTS = "constants.safetensors"  # what the model holds beside theta; not there where that is nothing
LAST = "last.safetensors"  # theta_T, by parameter
AVERAGE = "average.safetensors"  # the average of theta_1..theta_T, by parameter
