"""Unknown keys and options on the command line: one line with a suggestion, before Hydra runs."""

import pytest

from lm.config.overrides import check_command_line
from lm.errors import UserError
from tests.conftest import MODELS, needs_sweep


def refusal(command: str) -> str:
    script, *arguments = command.split()
    with pytest.raises(UserError) as caught:
        check_command_line(script, arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train +lr=1", "did you mean optimizer.lr?"),
        ("train lr=1", "did you mean optimizer.lr?"),
        ("train modle=lstm", "did you mean model?"),
        ("train model.core.hiden_size=3", "did you mean model.core.hidden_size?"),
        ("train +model.core.hiden_size=3", "did you mean model.core.hidden_size?"),
        ("train model.core={hiden_size:3}", "did you mean model.core.hidden_size?"),
        ("train ++x=1", "x is unknown"),
        ("train +trainer.foo=1", "trainer.foo is unknown"),
        ("train +trainer.callbacks=[]", "trainer.callbacks is unknown: did you mean callbacks?"),
        ("train +foo._target_=lm.training.callbacks.SampleText", "foo._target_ is unknown"),
        ("train trainer.max_time=1", "did you mean +trainer.max_time=1?"),
        ("train ~callbacks.smple_text", "did you mean callbacks.sample_text?"),
        ("train callbacks.sample_text=null", "give ~callbacks.sample_text"),
        ("train +callbacks.foo=1", "add an entry by +callbacks.foo._target_="),
        ("train +callbacks.mine._target_=my.Callback", "my.Callback given, but it cannot be imported"),
        ("train +callbacks.mine._target_=lightning +callbacks.mine.a=1", "=lightning given, but it is no class"),
        ("train ~seed", "seed cannot be left out"),
        ("train ~model", "model cannot be left out"),
        ("train +seed=3", "leave out the +"),
        ("train hydra.run.dri=x", "did you mean hydra.run.dir?"),
        ("train hydra.sweeper.max_batch_siz=3", "did you mean hydra.sweeper.max_batch_size?"),
        ("train --lr 5", "--lr is unknown: give keys as KEY=VALUE"),
        ("train data=text", "data.root is missing"),
        ("evaluate", "ckpt is missing"),
        ("evaluate ckpt=x +tune=true", "did you mean evaluation.tune?"),
        ("evaluate ckpt=x evaluation.cache.theta=0.3", "add evaluation/cache="),
        ("evaluate ckpt=x model=lstm", "model is unknown"),
        ("generate ckpt=x data=text", "data is unknown"),
        ("score ckpt=x +topp=3", "did you mean top?"),
        ("export ckpt=x format=onnx otu=y", "did you mean out?"),
        ("benchmark stps=3", "did you mean steps?"),
        ("benchmark outt=x", "did you mean out?"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(command, message):
    assert message in refusal(command)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train model=LSTM", f"did you mean model=lstm? The options are {', '.join(MODELS)}."),
        ("train -m model=lstm,LSTM", "did you mean model=lstm?"),
        ("train model=null", "model=None given, but there is no such option"),
        ("train model/head=adaptiv", "did you mean model/head=adaptive? The options are "),
        ("train model.head=adaptive", "did you mean model/head=adaptive?"),
        ("train model.head.tie_weights=true model.head=adaptive", "did you mean model/head=adaptive?"),
        ("train model=embedding/adaptive", "did you mean model/embedding=adaptive?"),
        ("train +experiment=quikstart", "did you mean experiment=quickstart?"),
        ("train +experiment=quickstart", "leave out the +"),
        ("train experiment=pytorch_examples", "pytorch_examples/gru, pytorch_examples/lstm,"),
        ("train regularizer=[ar_tar,zloss]", "regularizer=zloss given, but there is no such option: did"),
        ("train -m regularizer=ar_tar,[ar_tar,zloss]", "did you mean regularizer=z_loss?"),
        ("train regularizer=[]", "regularizer=[] given, but there is no such option. The options are ar_tar, "),
        ("train model=[lstm,gru]", "there is no such option"),
        ("train learning_rate=foo", "rnn_relu_sgd, "),
        pytest.param("train hydra/launcher=jobli", "did you mean hydra/launcher=joblib?", marks=needs_sweep),
        ("evaluate ckpt=x evaluation.cache=neural", "did you mean evaluation/cache=neural?"),
        ("evaluate ckpt=x evaluation=Full", "did you mean evaluation=full?"),
    ],
)
def test_an_unknown_option_is_refused_with_the_options_of_its_group(command, message):
    assert message in refusal(command)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("score ckpt=x tokenize=no", "tokenize=no given, but it must be true or false."),
        ("generate ckpt=x detokenize=flase", "detokenize=flase given, but it must be true or false."),
        ("generate ckpt=x detokenize=null", "detokenize=null given, but it needs a value"),
        ("export ckpt=x format=hub private=1", "private=1 given, but it must be true or false."),
        ("explore ckpt=x browser=no", "browser=no given, but it must be true or false."),
        ("train -m test=true,no", "test=no given, but it must be true or false."),
        ("train -m init_vocabulary=keep,null", "init_vocabulary=null given, but it needs a value"),
        ("train test=yes", "test=yes given, but it must be true or false."),
        ("benchmark learn=3", "learn=3 given, but it has keys of its own: give learn.KEY=VALUE."),
        ("score ckpt=null", "ckpt=null given, but it needs a value"),
        ("score ckpt=x most=null", "most=null given, but it needs a value"),
        ("explore ckpt=x port=null", "port=null given, but it needs a value"),
    ],
)
def test_a_switch_is_true_or_false_and_few_keys_may_be_null(command, message):
    assert message in refusal(command)


def test_options_from_a_folder_of_ones_own_are_known(tmp_path):
    folder = tmp_path / "my, 'own' \"conf\""
    (folder / "experiment" / "mine").mkdir(parents=True)
    (folder / "experiment" / "mine" / "wide.yaml").write_text(
        "# @package _global_\nmodel:\n  core:\n    hidden_size: 300\n"
    )
    check_command_line("train", ["--config-dir", str(folder), "experiment=mine/wide"])
    with pytest.raises(UserError, match="did you mean experiment=mine/wide"):
        check_command_line("train", ["--config-dir", str(folder), "experiment=mine/wid"])


@pytest.mark.parametrize("argument", ["a=b=c", "optimizer.lr=[1", "foo", "model=lstm,gru", "+foo@bar=x"])
def test_what_hydra_cannot_read_is_one_line(argument):
    assert argument in refusal(f"train {argument}")


@pytest.mark.parametrize(
    "command",
    [
        "train -m model=lstm,gru optimizer.lr=1,5",
        "train -m model=glob(*) seed=range(3)",
        "train regularizer=[ar_tar,z_loss] ~regularizer.tar",
        "train -m regularizer=none,[ar_tar,z_loss]",
        pytest.param("train -m hparams_search=optuna optimizer.lr=interval(1,40)", marks=needs_sweep),
        "train experiment=pytorch_examples/lstm",
        "train trainer=ddp trainer.strategy.timeout_minutes=3 trainer.strategy=auto",
        "train +trainer.max_time=00:01:00 +optimizer.nesterov=true",
        "train +trainer.profiler._target_=lightning.pytorch.profilers.SimpleProfiler",
        "train +callbacks.mine={_target_:lm.training.callbacks.SampleText,words:3}",
        "train +callbacks.mine._target_=lm.training.callbacks.SampleText +callbacks.mine.words=3",
        "train +callbacks.mine._target_=builtins.dict +callbacks.mine.a=1",  # whose arguments Python cannot list
        "train ~callbacks.sample_text ~trainer.max_epochs hydra.verbose=true +hydra.job.env_set.FOO=1",
        pytest.param("train hydra/launcher=joblib hydra.launcher.n_jobs=2", marks=needs_sweep),
        "train --cfg job data=text",
        "train -m model.core.dropout=2,0.1",  # output_dropout refers to it; each job checks its own
        "train --help modle=lstm",
        "evaluate ckpt=x data=text data.root=y evaluation/cache=neural evaluation.cache.theta=0.3",
        "generate ckpt=x seed=null tokenize=null out=null",
        "score ckpt=x tokenize=true eos=false",
        "benchmark only=[lstm] +models.mine={overrides:[],sides:[fast]}",
    ],
)
def test_what_hydra_and_the_targets_take_passes(command):
    script, *arguments = command.split()
    check_command_line(script, arguments)


@pytest.mark.parametrize("command", ["train -m hparams_search=optuna", "train -m hydra/launcher=submitit_local"])
def test_a_search_without_its_packages_says_what_to_install(command, monkeypatch):
    monkeypatch.setattr("lm.config.options.find_spec", lambda name: None)
    assert refusal(command).endswith("needs more packages: pip install -e '.[sweep]'")
