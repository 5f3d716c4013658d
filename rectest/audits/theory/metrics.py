"""Why the properties of metrics are properties."""

from __future__ import annotations

from collections.abc import Mapping

from rectest.audits.theory import Theory

__all__ = ["THEORY"]

_COHERENCE: Mapping[str, Theory] = {
    "coherence/table": Theory(
        claim="One ranking gives all cells of a table, so the cells bound each other.",
        why="Let F(k) be the share of users whose best relevant item ranks at k or better: hit@k, and recall@k with "
        "one relevant item. F rises with k, and whoever enters between a and b gains between g(b) and g(a + 1), with "
        "g(r) = 1/r for mrr and 1/log2(1 + r) for ndcg; hence dF/log2(b + 1) <= d ndcg <= dF/log2(a + 2). At k = 1 all "
        "are equal, 1/mrr is the harmonic mean of ranks and at most mean_rank (Jensen), and hits are whole users. "
        "Every rule is granted the half unit of the last digit of each cell, so a true table is never refused.",
        red="A column under the wrong cut-off (recall flat while ndcg rises), a list shorter than its k, two columns "
        "under each other's name, a percentage among fractions, a typo, or a wrong ideal DCG. A repair is proposed "
        "only if it makes every rule hold; where several do, the slip cannot be told from the table alone.",
        exempt="Most rules need one relevant item a user (--relevant 1); --multi-positive switches them off. --ties "
        "allows fractions of ranks. Means over seeds of whole tables obey the same rules, being linear.",
    ),
    "coherence/recomputed": Theory(
        claim="A recorded metric is the mean over users of what the stored ranks give.",
        why="Metric and ranks are two views of one evaluation, and float64 means of the same terms differ by rounding "
        "only, about 1e-9 relative.",
        red="Another ideal DCG, another cut-off, a mean of batch means with a short last batch, other users.",
    ),
    "coherence/ties": Theory(
        claim="Few relevant items have a rank that depends on how ties are broken.",
        why="A constant scorer has hit@10 = 0 or 1 by the tie rule alone (Lin and Yang, The impact of score ties on "
        "repeatability in document ranking, SIGIR 2019); a metric that rests on ties measures the rule.",
        red="Scores in half precision, a collapsed model, sigmoids that saturate.",
    ),
    "ranges/metric": Theory(
        claim="A metric is finite, a share lies in [0, 1], and no rank or cut-off lies beyond the candidates.",
        why="Shares of users and discounted gains over the ideal gain cannot leave [0, 1]; a rank counts candidates.",
        red="A sum that was not divided, a percentage, NaN scores, a list filled up with repeats to reach its k.",
    ),
    "ranges/num_users": Theory(
        claim="As many users and relevant items were ranked as the protocol says.",
        why="A mean over fewer users is another metric, and those that are skipped are rarely a random sample.",
        red="A loop over the first 10,000 users, users without history skipped in silence, a last batch dropped.",
    ),
    "ranges/loss": Theory(
        claim="Every loss of every step is finite.",
        why="One NaN in a loss is in every parameter a step later.",
        red="A learning rate too high, log(0), a division by an empty batch, half precision without scaling.",
    ),
    "ranges/steps": Theory(
        claim="Evaluations stand at rising steps within the training.",
        why="Curves are read by step; a step that repeats or falls means two runs in one record.",
        red="Logs of two runs in one folder, a counter that starts anew after a resume.",
    ),
}

_CHANCE: Mapping[str, Theory] = {
    "chance": Theory(
        claim="A trained model ranks better than chance, by more than the noise of its users.",
        why="With R relevant among C candidates in random order every metric has an exact mean and variance: recall@k "
        "has mean k/C, one relevant item has mrr H(C)/C and mean rank (C + 1)/2. Shares are tested by the exact "
        "binomial tail, other means by their exact standard error, at p < 0.001.",
        red="CHANCE: evaluation is not connected to what was trained (id maps, stale tables, dead branches). FAIL: "
        "worse than chance, so scores are inverted or the relevant items masked.",
        exempt="A baseline that ranks at random is meant to be here.",
    ),
    "chance/joint": Theory(
        claim="A table of a trained model is not one that random ranking gives.",
        why="With one relevant item every metric of a user is a function of its rank, uniform on 1..C by chance, so "
        "means and covariance of all metrics are sums over C ranks. The chi-square in that covariance and the largest "
        "single z are each compared with 9,999 tables of drawn ranks, rounded as the printed one, at half the level. "
        "Single metrics deceive: among 100 candidates an mrr of 0.054 (1/18) is chance, whose mean rank is 50.",
        red="The whole table is chance: neither overfitting nor too little data explains it, since both leave a "
        "ranking that carries some signal of training.",
        exempt="It takes --candidates and --users. The best of E evaluations is tested at 1/E of the level.",
    ),
    "floor/popularity": Theory(
        claim="A model that has learned from histories beats a count of events.",
        why="Popularity needs no training and no user (Dacrema et al., Are we really making much progress?, RecSys "
        "2019). Its expected score is exact: leave-last-out, the law of the target's rank among unseen items, drawn "
        "ones by the hypergeometric distribution, ties at random.",
        red="History does not reach the model, training stopped far too early, or ids of items are shifted.",
        exempt="Without --interactions it is not judged; candidates drawn by popularity have another floor.",
    ),
    "floor/optimum": Theory(
        claim="No model beats the Bayes-optimal ranking of a synthetic world by more than noise.",
        why="The oracle ranks by the true probability of the next item, which maximises every metric in expectation.",
        red="A leak: the target among the inputs, or test events in training.",
    ),
}

_ACCOUNTING: Mapping[str, Theory] = {
    "accounting/steps": Theory(
        claim="Optimizer steps are epochs x ceil(samples / batch size).",
        why="Each epoch takes every sample once, and the last batch is shorter.",
        red="One less: the label of the last step of a logger that counts from zero. The floor instead of the ceiling: "
        "the last batch is dropped and its rows are never trained on.",
        exempt="Accumulation of gradients divides the number; give the batch that one step takes.",
    ),
    "accounting/parameters": Theory(
        claim="The stated number of parameters follows from the architecture.",
        why="Layer by layer the shapes are known; a float32 takes four bytes.",
        red="A part that is described and not there, a frozen encoder counted as trained, or rounding hidden in units.",
    ),
    "accounting/early_stop": Theory(
        claim="The kept evaluation is the best of the curve, and training ended `patience` evaluations after it.",
        why="That is the rule of early stopping; the curve is its only input.",
        red="The direction of the measure is reversed, or patience is counted in another unit.",
    ),
    "accounting/percent": Theory(
        claim="A stated change in percent follows from the two values beside it.",
        why="Both values and the change are intervals, as wide as their last digits; they must meet.",
        red="Percent points given as percent, the wrong base, a sign turned round.",
    ),
}

THEORY: Mapping[str, Theory] = {**_COHERENCE, **_CHANCE, **_ACCOUNTING}
