"""Why a key of another trainer is not kept: by the kind of thing that it sets."""

from __future__ import annotations

import re

#: A pattern that the whole key matches → the reason. The first one counts.
_REASONS = {
    r"(eval|val|test|evals|evaluation|per_device_eval|do_eval|do_predict|predict|generation)(_.*)?"
    r"|(metric_for_best|load_best|greater_is|batch_eval|include_for_m|prediction_loss|compute_ac).*"
    r"|early_stopping.*": "[evaluation] says what is measured at each checkpoint, [stopping] when "
    "a run ends early",
    r"(fsdp|deepspeed|ddp|tensor_parallel|context_parallel|sequence_parallel|expert_parallel|"
    r"dp_|ray_|accelerator|parallelism|heads_k_stride|ring_attn|local_rank).*": "torchrun and "
    "optimisation.fsdp spread a run over processes (docs/distributed.md)",
    r"(sample_packing|packing|neat_packing|pad_to|padding_free|group_by_length|length_column|"
    r"train_sampling|multipack|batch_flattening|curriculum|eval_packing).*": "the rows of a step "
    "are laid end to end without seeing each other, where the model allows",
    r"(dataloader|dataset_|preprocessing|overwrite_cache|tokenized|streaming|shuffle|data_seed|"
    r"shards|skip_prepare|remove_unused|ignore_data|low_cpu|max_samples|buffer_size|cache_dir|"
    r"data_shared|disable_shuffling|train_on_split|type$|excess_length).*": "rows are read, "
    "checked and ordered by [data], [formats] and the seed",
    r"(flash_att|xformers|sdp_att|attn_|eager_att|s2_att|flex_att|sage_att|fa_|liger|use_liger|"
    r"enable_liger|torch_compile|cut_cross|lora_\w+_kernel|use_unsloth|unsloth_|triton|plugins|"
    r"use_kernels|fast_inference|chunked_cross).*": "kernels are chosen by what runs on the device",
    r"(hub|push_to_hub|hf_use_auth|model_revision|revision|private).*": "nothing is sent to the "
    "hub during training",
    r"(wandb|mlflow|comet|swanlab|trackio|tensorboard|use_wandb|use_mlflow|logging|log_|"
    r"disable_tqdm|plot_loss|include_\w+_(seen|second)|profiler|skip_memory|logits_).*": "every "
    "step is logged in metrics.jsonl; [tracking] has the trackers",
    r"(save|checkpoint|resume|auto_resume|overwrite_output|ignore_.*checkpoint|restore_callback|"
    r"enable_jit_checkpoint).*": "[checkpoints] says when a run is saved; the same command resumes "
    "it",
    r"(special_tokens|tokens|added_tokens|resize_|add_special|add_tokens|pad_token|eos_token|"
    r"eot_tokens|new_special|tokenizer|use_fast|split_special|mean_resizing).*": "the tokenizer is "
    "used as it is; adapter.train_control_tokens adds the tokens that formats need",
    r"(trust_remote).*": "code of a model's own is never run",
    r"(tf32|bf16|fp16|half|compute_dtype|float|infer_dtype|bnb_4bit|llm_int8|quant).*": "the "
    "adapter is float32, and dtype is that of the frozen base",
    r"(lora|peft|loftq|bias|modules_to_save|layers_|rank_pattern|alpha_pattern|init_lora|"
    r"additional_target|fan_in|pissa|corda|eva_|arrow|megatron|exclude_mod|target_param|qalora|"
    r"auto_mapping|inference_mode|task_type|use_peft|peft_type|base_model_name|ensure_weight|"
    r"trainable_token|create_new|merge_lora|runtime_config|layer_repl|use_bdlora).*": "the adapter "
    "is a plain LoRA, or with adapter.use_rslora and use_dora",
    r"(neftune|label_smooth|loss_type|use_dft|dft_|eaft|asft|router_aux|moe_aux|diffusion|"
    r"use_asft|relora).*": "the loss is the cross-entropy of the trained tokens, or what "
    "[objective] names",
    r"(optim|galore|apollo|badam|muon|lr_|cosine_|adam).*": "[optimisation] and [schedule] have "
    "no such setting",
    r"(chat_template|template|default_system|enable_thinking|tool_format|conversation|roles|"
    r"train_on|field|message|mask_|split_thinking|drop_system|reasoning).*": "the format writes "
    "the roles, and the assistant's messages are trained up to their stop ([loss])",
    r"(rope|max_position|overrides_of_model|sliding|model_init|model_config|model_type|"
    r"is_(llama|mistral|qwen|falcon).*|device_map|gpu_memory|max_memory|use_cache|mixture|"
    r"upcast|full_finetuning|unfrozen|freeze).*": "the model is loaded as its files say, and "
    "only the adapter is trained",
    r"(do_train|stage|strict|debug|seed_.*|full_determinism|gc_steps|torch_empty_cache|"
    r"auto_find_batch|gradient_checkpointing_kwargs|activation_off|average_tokens|use_cpu|jit|"
    r"overwrite).*": "a run needs no such switch here",
}
_PATTERNS = [(re.compile(pattern), reason) for pattern, reason in _REASONS.items()]


def reason_for(key: str) -> str:
    """Why ``key`` is not kept. A nested key counts by its last part."""
    name = key.rpartition(".")[2]
    found = (reason for pattern, reason in _PATTERNS if pattern.fullmatch(name))
    return next(found, "harness train has no such setting")
