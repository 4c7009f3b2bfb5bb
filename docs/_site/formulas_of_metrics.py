r"""What each metric is: one formula, and one sentence. The page is made by metric_formulas.py.

$p$ is the model of a generation and $p_0$ the real distribution; $\mu, \Sigma$ are a mean and a
covariance in $d$ dimensions, with index 0 those of the real distribution.
"""

SHAPE = {
    "mean": (r"\mathbb{E}_p\, x", "Mean of a draw: one per coordinate, or one over all pixels."),
    "variance": (
        r"\frac{1}{d} \operatorname{tr} \operatorname{Cov}_p(x)",
        "Variance of a draw, averaged over coordinates, or over the columns of numbers of a table.",
    ),
    "log_variance": (
        r"\frac{1}{d} \log \det \operatorname{Cov}_p(x)",
        "In one dimension the log of the variance. For `vae` it is the log of `variance`, for "
        "`gaussian_copula` the mean over columns of the log variances.",
    ),
    "trace": (r"\operatorname{tr} \Sigma", "Total variance."),
    "log_trace": (
        r"\log \operatorname{tr} \Sigma",
        "Log of `trace`. It is right even if the trace is below the smallest float.",
    ),
    "log_determinant": (
        r"\log \det \Sigma",
        "Log determinant of the covariance. For `gaussian_copula`, of the latent correlation.",
    ),
    "log_scale": (
        r"s_j = \tfrac{1}{2} \log D_{jj}, \quad \Sigma = U D U^\top",
        "Half the log variance of coordinate $j$ given those before it, with $U$ unit lower "
        "triangular. For `student_t` it is the mean over $j$, computed on its scale matrix.",
    ),
    "scale": (
        r"\exp\Big(\frac{1}{d} \sum_j s_j\Big)",
        "Geometric mean of the scales of a Student t.",
    ),
    "entropy": (
        r"-\sum_k p_k \log p_k \quad \text{or} \quad -\int p(x) \log p(x)\, dx",
        "In nats, for categories or for a density. For a Gaussian it is "
        r"$\tfrac{d}{2} \log(2 \pi e) + \tfrac{1}{2} \log \det \Sigma$.",
    ),
    "effective_rank": (
        r"\exp\Big(-\sum_j q_j \log q_j\Big), \quad q_j = \frac{\lambda_j}{\sum_i \lambda_i}",
        r"Effective number of nonzero eigenvalues $\lambda$ of the covariance (Roy and Vetterli "
        "2007); 0 without any variance.",
    ),
    "condition_number": (
        r"\frac{\lambda_{\max}}{\lambda_{\min}}",
        "Condition number of the covariance.",
    ),
    "log_condition_number": (
        r"\log \lambda_{\max} - \log \lambda_{\min}",
        "Log of the condition number.",
    ),
    "heterozygosity": (r"1 - \sum_k p_k^2", "The probability that two draws differ."),
    "support": (r"\#\{k : p_k > 0\}", "Number of outcomes that the model can still draw."),
    "absorbed": (
        r"\mathbf{1}[\#\{k : p_k > 0\} = 1]",
        "1 if one outcome has all the probability. For `poisson`: 1 if the rate is 0.",
    ),
    "probabilities": (
        r"(p_1, \dots, p_K)",
        "All probabilities; for `ngram` the shares of the tokens.",
    ),
    "probability": (r"p_1", "Probability of a one."),
    "log_odds": (r"\log \frac{p_1}{1 - p_1}", "Log odds of a one."),
    "rate": (r"\lambda", "For `poisson` its mean; for `exponential` one over its mean."),
    "log_rate": (r"\log \lambda", "Log of the rate of `poisson`."),
    "log_mean": (r"\log \mathbb{E}_p\, x", "Log of the mean of `exponential`."),
    "shape": (r"a, \quad P(x > t) = (x_{\min} / t)^a", "Exponent of a Pareto distribution."),
    "log_shape": (r"\log a", "Log of that exponent."),
    "maximum": (r"\theta", "Upper end of a uniform distribution on $[0, \\theta]$."),
    "log_maximum": (r"\log \theta", "Log of that upper end."),
    "df": (r"\nu", "Degrees of freedom of a Student t."),
    "inverse_df": (r"1 / \nu", "Inverse degrees of freedom; 0 for a Gaussian."),
    "bandwidth": (
        r"\exp\Big(\frac{1}{d} \sum_j \log h_j\Big)",
        "Geometric mean of the standard deviations of the kernel, in the units of the data.",
    ),
    "component_deviations": (
        r"\sqrt{\operatorname{tr}(\Sigma_k) / d}",
        "Standard deviation of each component $k$ of a mixture, largest first.",
    ),
    "smallest_weight": (r"\min_k w_k", "Smallest weight of the components of a mixture."),
    "vocabulary": (r"\#\{v : n_v > 0\}", "Number of different tokens in the training set."),
    "distinct_ngrams": (
        r"\#\{(v_1, \dots, v_n) : n_{v_1 \dots v_n} > 0\}",
        "Number of different n-grams in the training set; n is the order.",
    ),
    "conditional_entropy": (
        r"-\frac{1}{N} \sum_t \log p(x_t \mid \text{the } n - 1 \text{ tokens before})",
        "Nats per token of the training set, under the model fitted to it.",
    ),
    "correlation": (r"R_{ij}", "Latent correlation of the columns of a table, $[D, D]$."),
    "cramer_von_mises": (
        r"\int (F - F_0)^2\, dF_0",
        "Distance to the distribution function of `empirical(cdf=...)`.",
    ),
    "kolmogorov_smirnov": (
        r"\sup_t |F(t) - F_0(t)|",
        "Distance to the distribution function of `empirical(cdf=...)`.",
    ),
}
REGRESSION = {
    "weights": (r"w", "Weights of the features."),
    "weight_norm": (r"|w|", "Length of the vector of weights."),
    "separated": (
        r"\mathbf{1}[\exists v : (2 y_i - 1)\, x_i^\top v > 0 \ \forall i]",
        "1 if some weights classify all training labels correctly. No finite optimum exists then.",
    ),
}
DISTANCES = {
    "kl_model_to_real": (
        r"\mathrm{KL}(p \,\|\, p_0) = \int p \log \frac{p}{p_0}",
        "In nats. For `gmm` and `student_t`, the mean over 4,096 draws with one fixed key.",
    ),
    "kl_real_to_model": (
        r"\mathrm{KL}(p_0 \,\|\, p) = \int p_0 \log \frac{p_0}{p}",
        "In nats; infinite once the model has lost an outcome or a direction.",
    ),
    "total_variation": (
        r"\frac{1}{2} \int |p - p_0|",
        "For `gaussian`, in one dimension; for `ngram`, computed on the shares of tokens.",
    ),
    "wasserstein1": (
        r"\int_0^1 |F^{-1}(u) - F_0^{-1}(u)|\, du",
        "The mean distance that points have to move.",
    ),
    "wasserstein2": (r"W_2(p, p_0)", "The root of `squared_wasserstein2`."),
    "squared_wasserstein2": (
        r"W_2^2 = \inf_{x \sim p,\, y \sim p_0} \mathbb{E} |x - y|^2",
        r"For Gaussians $|\mu - \mu_0|^2 + \operatorname{tr}(\Sigma + \Sigma_0 - 2 (\Sigma_0^{1/2} "
        r"\Sigma \Sigma_0^{1/2})^{1/2})$; for categories, computed on their numbers.",
    ),
    "missing_mass": (r"\sum_{k : p_k = 0} p_{0,k}", "Real probability of the lost outcomes."),
    "tail_lost": (
        r"1 - \frac{\sum_{k \in A} p_k}{\sum_{k \in A} p_{0,k}}",
        "$A$ are the categories of least real probability, at most a tenth together. The value is "
        "negative if the model gives them more.",
    ),
    "squared_distance": (
        r"\sum_k (p_k - p_{0,k})^2",
        r"For regressions $|w - w_0|^2$; for `empirical` $\int (F - F_0)^2\, dF_0$.",
    ),
    "squared_l2": (r"\int (p - p_0)^2", "Exact for mixtures of Gaussians."),
    "log_squared_l2": (
        r"\log \int (p - p_0)^2",
        "Log of `squared_l2`. It is right even if the integral is out of range.",
    ),
    "kolmogorov_smirnov_distance": (r"\sup_t |F(t) - F_0(t)|", "Between two samples."),
    "surviving_vocabulary": (
        r"\frac{\#\{v : n_v > 0,\, n_{0,v} > 0\}}{\#\{v : n_{0,v} > 0\}}",
        "Share of the real text's different tokens that the training set still contains.",
    ),
    "cross_entropy_model_to_real": (
        r"-\frac{1}{N} \sum_t \log p_0(x_t \mid \text{before}), \quad x \text{ of the model's set}",
        "Nats per token; infinite once a token is impossible.",
    ),
    "cross_entropy_real_to_model": (
        r"-\frac{1}{N} \sum_t \log p(x_t \mid \text{before}), \quad x \text{ of the real set}",
        "Nats per token; infinite once a token is impossible.",
    ),
    "test_error": (
        r"(w - w_0)^\top C\, (w - w_0)",
        "Excess risk of a linear model, for features of covariance $C$.",
    ),
    "angle": (
        r"\arccos \frac{w^\top w_0}{|w|\, |w_0|}",
        "Angle between the weights and the real ones, in radians.",
    ),
    "cosine": (r"\frac{w^\top w_0}{|w|\, |w_0|}", "Cosine of that angle."),
    "excess_log_loss": (
        r"\mathbb{E}_{p_0}[\ell(w) - \ell(w_0)], \quad \ell = -\log p(y \mid x)",
        "Excess log loss, exact for standard normal features.",
    ),
    "latent_mean": (
        r"\operatorname{mean}_{i,j}\, m_{0,j}(x_i)",
        "Mean of the latent means that the reference's encoder gives to images of the model.",
    ),
    "latent_deviation": (
        r"\operatorname{std}_{i,j}\, m_{0,j}(x_i)",
        "Standard deviation of these latent means. The published number is "
        "`latent_deviation_to_first`.",
    ),
    "correlation_distance": (
        r"\Big(\sum_{ij} (R_{ij} - R_{0,ij})^2\Big)^{1/2}",
        "Distance between the latent correlations.",
    ),
}
# Of one column of a table: NAME_COLUMN.
COLUMNS = {
    "mean": (r"\mathbb{E}\, x_j", "Mean of a column of numbers."),
    "variance": (r"\operatorname{Var} x_j", "Variance of a column of numbers."),
    "support": (r"\#\{\text{values of column } j\}", "Number of different values of a column."),
    "probabilities": (r"(p_1, \dots, p_K)", "Shares of a column's categories."),
    "heterozygosity": (r"1 - \sum_k p_k^2", "Heterozygosity of a column's categories."),
    "entropy": (r"-\sum_k p_k \log p_k", "Entropy of a column's categories, in nats."),
    "total_variation": (
        r"\frac{1}{2} \sum_k |p_k - p_{0,k}|",
        "Total variation distance of a column's categories.",
    ),
}
# Of any family: functions of cj.metrics, with real points.
POINTS = {
    "precision": (
        r"\frac{1}{n} \sum_i \mathbf{1}\big[\exists j : |x_i - y_j| \le r_k(y_j)\big]",
        "Share of the model's points $x$ within the ball of a real point $y$; $r_k$ is the "
        "distance to the $k$-th nearest of the others (Kynkaanniemi et al. 2019).",
    ),
    "recall": (
        r"\frac{1}{m} \sum_j \mathbf{1}\big[\exists i : |x_i - y_j| \le r_k(x_i)\big]",
        "Share of the real points within the ball of a model point.",
    ),
    "density": (
        r"\frac{1}{n k} \sum_{i,j} \mathbf{1}\big[|x_i - y_j| \le r_k(y_j)\big]",
        "Mean number of real balls that contain a model point, divided by $k$; near 1 for equal "
        "distributions (Naeem et al. 2020).",
    ),
    "coverage": (
        r"\frac{1}{m} \sum_j \mathbf{1}\big[\exists i : |x_i - y_j| \le r_k(y_j)\big]",
        "Share of the real balls that contain a model point.",
    ),
    "sliced_wasserstein": (
        r"\Big(\frac{1}{L} \sum_{l=1}^{L} W_2^2(\theta_l^\top x, \theta_l^\top y)\Big)^{1/2}",
        r"Averaged over $L$ random directions $\theta$; order 1 has its own function.",
    ),
    "tail_share": (
        r"\frac{1}{n} \sum_i \mathbf{1}\big[|x_i - \bar y| > q_{.9}(|y - \bar y|)\big]",
        "Share of the model's points farther from the mean of the real ones than 90% of these.",
    ),
    "held_out_log_prob": (
        r"\frac{1}{n} \sum_i \log p(y_i)",
        "Mean log-probability in nats of real rows that no model was fitted to.",
    ),
}
TEXT = {
    "test_perplexity": (
        r"\exp\Big(-\frac{1}{N} \sum_t \log p(x_t \mid x_{<t})\Big)",
        "Perplexity of all blocks of the real test text together.",
    ),
    "test_perplexity_mean": (
        r"\frac{1}{B} \sum_b \exp\Big(-\frac{1}{N_b} \sum_{t \in b} \log p(x_t \mid x_{<t})\Big)",
        "Mean over blocks of the perplexity of each block. It is at least as large.",
    ),
    "train_perplexity_first": (
        r"\exp\Big(-\frac{1}{N_b} \sum_{t \in b} \log p_{g=0}(x_t \mid x_{<t})\Big)",
        "Perplexity of each block of a training set under the model of generation 0. The records "
        "have its statistics, such as `train_perplexity_first_median`.",
    ),
    "train_perplexity_own": (
        r"\exp\Big(-\frac{1}{N_b} \sum_{t \in b} \log p_g(x_t \mid x_{<t})\Big)",
        "The same, under the model fitted to that training set.",
    ),
    "test_entropy": (
        r"-\frac{1}{N} \sum_t \sum_v p(v \mid x_{<t}) \log p(v \mid x_{<t})",
        "Mean entropy of the predictions, in nats. `train_entropy_own` and `example_entropy` are "
        "the same for other texts.",
    ),
    "gain_lost": (
        r"\frac{\log P_g - \log P_0}{\log P_{\text{before}} - \log P_0}",
        "$P$ is `test_perplexity`: 0 in generation 0, 1 if the whole gain of fine-tuning is lost.",
    ),
    "test_bits_per_byte": (
        r"\frac{-\sum_t \log p(x_t \mid x_{<t})}{\log 2 \cdot \#\text{bytes}}",
        "Does not depend on the tokenizer.",
    ),
    "share_below_real_10": (
        r"\frac{1}{B} \#\{b : P_b < q_{0.1}\}",
        r"$P_b$ are the perplexities of blocks, $q$ the quantiles for real blocks.",
    ),
    "share_above_real_90": (r"\frac{1}{B} \#\{b : P_b > q_{0.9}\}", "Share in the long tail."),
    "share_above_real_99": (r"\frac{1}{B} \#\{b : P_b > q_{0.99}\}", "Share in the far tail."),
    "distinct_n": (
        r"\frac{\#\{\text{different } n\text{-grams}\}}{\#\{n\text{-grams}\}}",
        "`distinct_1` to `distinct_4`, over all blocks together (Li et al. 2016).",
    ),
    "repeated_4_grams": (
        r"1 - \frac{\#\{\text{different 4-grams of the block}\}}"
        r"{\#\{\text{4-grams of the block}\}}",
        "The mean over blocks.",
    ),
    "repeated_within_16": (
        r"\frac{1}{L - 1} \sum_{t=2}^{L} \mathbf{1}[x_t \in \{x_{t-16}, \dots, x_{t-1}\}]",
        "The mean over blocks of $L$ tokens.",
    ),
    "type_token_ratio": (
        r"\frac{\#\{\text{different tokens of the block}\}}{L}",
        "The mean over blocks.",
    ),
    "vocabulary_in_use": (
        r"V = \#\{v : n_v > 0\}",
        "Number of different tokens in the training set.",
    ),
    "self_bleu": (
        r"\frac{1}{B} \sum_b \mathrm{BLEU}_4(b;\ \text{all other blocks})",
        "Between 0 and 1; 1 if all blocks are equal (Zhu et al. 2018).",
    ),
    "zipf_exponent": (
        r"\arg\max_s \sum_r n_r \log \frac{r^{-s}}{\sum_{q=1}^{V} q^{-s}}",
        "$n_r$ is the count of the token of rank $r$ in the training set.",
    ),
    "unigram_kl": (
        r"\sum_v P_v \log \frac{P_v}{Q_v}, \quad P_v \propto n_{0,v} + \tfrac{1}{2},\ "
        r"Q_v \propto n_v + \tfrac{1}{2}",
        "Over the tokens of either text.",
    ),
    "unigram_js": (
        r"\frac{1}{2} \mathrm{KL}\Big(P \,\Big\|\, \frac{P + Q}{2}\Big) + \frac{1}{2} "
        r"\mathrm{KL}\Big(Q \,\Big\|\, \frac{P + Q}{2}\Big)",
        "Computed on the plain frequencies; between 0 and log 2.",
    ),
    "yules_k": (
        r"10^4\, \frac{\sum_v n_v^2 - N}{N^2}",
        "Larger if a few tokens make up more of the text (Yule 1944).",
    ),
    "mtld": (
        r"\frac{N}{\#\text{pieces}}",
        "A piece ends where its type-token ratio falls below 0.72. The mean of forwards and "
        "backwards (McCarthy and Jarvis 2010).",
    ),
    "different_sequences": (
        r"\#\{\text{different blocks}\}",
        "Number of different blocks in a training set.",
    ),
    "real_8_grams": (
        r"\frac{\#\{\text{8-grams that a real block has too}\}}{\#\{\text{8-grams}\}}",
        "Share of 8-grams copied from real text; 1 in generation 0.",
    ),
    "embedding_diversity": (
        r"\frac{2}{B (B - 1)} \sum_{i < j} (1 - \cos(e_i, e_j))",
        "$e$ is the mean hidden state of a block under the pretrained model.",
    ),
    "mauve": (
        r"\mathrm{MAUVE}(P, Q) \in (0, 1]",
        "Computed on the same embeddings, compared with the real text (Pillutla et al. 2021).",
    ),
}
