"""An observer that follows a run and says how good its models are.

`measure` measures one model, `follower` asks for the models of a run, `process` is the process. Only the last reads the
settings file, which a test bed may share.
"""
